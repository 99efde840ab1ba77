"""The published annotation set, downloaded or copied, and verified against the manifest.

Files that are there and verified are kept, so a call that was stopped can be repeated.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from experiments.errors import UserError
from protocols.manifest import COMMIT, REPOSITORY, Entry, manifest
from results.reading.location import storage_error
from tcclip.data.annotations import read_class_names, read_list, sha256_of
from tcclip.text_files import FileError

PUBLISHED = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
ATTEMPTS = 4
TIMEOUT_SECONDS = 60
#: Seconds before the second attempt; doubled for each further one.
BACKOFF_SECONDS = 1.0


@dataclass(frozen=True)
class Fault:
    """A file that is not as published. `known`: the manifest has its digest."""

    path: str
    kind: Literal["missing", "changed", "unavailable"]
    detail: str
    known: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}, {self.detail}"


class _Unavailable(Exception):
    """The source does not have the file, or cannot be reached."""


def verify(folder: Path) -> list[Fault]:
    """The files of `folder` that are missing or not as published.

    A file without a known digest must be a list or label file that can be read.
    """
    found = (_fault(folder / entry.path, entry) for entry in manifest())
    return [fault for fault in found if fault is not None]


def _fault(path: Path, entry: Entry) -> Fault | None:
    known = entry.sha256 is not None
    if not path.is_file():
        return Fault(entry.path, "missing", f"expected as {path}", known)
    size = path.stat().st_size
    if entry.bytes is not None and size != entry.bytes:
        return Fault(entry.path, "changed", f"{size} bytes where {entry.bytes} were published")
    if known:
        digest = sha256_of(path)
        if digest != entry.sha256:
            return Fault(entry.path, "changed", f"sha256 {digest}, published {entry.sha256}")
        return None
    try:
        read_class_names(path) if entry.path.startswith("labels/") else read_list(path)
    except FileError as error:
        return Fault(entry.path, "changed", str(error), known)
    return None


def fetch(source: str | None, to: Path, progress: Callable[[str, int, int], None]) -> list[Fault]:
    """Bring the published set into `to`; returns what is still wrong there afterwards.

    `source`: a folder or a URL that has datasets_splits/ and labels/, None for the published
    repository. `progress` is told each file's path, its number from 1, and how many there are.
    UserError if the folder is not there; StorageError if `to` cannot be written.
    """
    origin = _origin(source)
    faults = []
    for number, entry in enumerate(manifest(), start=1):
        if _fault(to / entry.path, entry) is not None:
            faults.append(_fetch_file(origin, to, entry))
        progress(entry.path, number, len(manifest()))
    return [fault for fault in faults if fault is not None]


def _origin(source: str | None) -> str | Path:
    """The address, or the folder, to fetch from."""
    if source is None:
        return PUBLISHED
    if urllib.parse.urlsplit(source).scheme in ("http", "https"):
        return source.rstrip("/")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UserError(f"{source} is neither a folder nor an http(s) address to fetch from")
    return folder


def _fetch_file(origin: str | Path, to: Path, entry: Entry) -> Fault | None:
    """Write one file beside its place, verify it there, rename it."""
    part = to / f"{entry.path}.part"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(_read(origin, entry.path))
        fault = _fault(part, entry)
        if fault is not None:
            part.unlink()
            return replace(fault, detail=f"{fault.detail}; not kept")
        part.replace(to / entry.path)
    except _Unavailable as error:
        return Fault(entry.path, "unavailable", str(error), entry.sha256 is not None)
    except OSError as error:
        raise storage_error(to / entry.path, error) from error
    return None


def _read(origin: str | Path, path: str) -> bytes:
    if isinstance(origin, str):
        return _download(f"{origin}/{urllib.parse.quote(path)}")
    if not (origin / path).is_file():
        raise _Unavailable(f"{origin / path} is not there")
    return (origin / path).read_bytes()


def _download(url: str) -> bytes:
    """The content of `url`; a broken connection or a busy server is tried again."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _Unavailable(f"{url}: HTTP {error.code} {error.reason}") from error
            cause: Exception = error
        except (OSError, HTTPException) as error:
            cause = error
    raise _Unavailable(f"{url}: {cause} ({ATTEMPTS} attempts)") from cause
