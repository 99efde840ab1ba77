"""The published annotation set, downloaded or copied, and verified against the manifest.

Stopped anywhere, the same call goes on: verified files are kept, a partial download continues.
"""

from __future__ import annotations

import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Literal

from experiments.errors import UserError
from protocols.manifest import COMMIT, REPOSITORY, Entry, manifest
from results.reading.location import storage_error
from tcclip.data.annotations import AnnotationError, read_class_names, read_list, sha256_of

PUBLISHED = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
ATTEMPTS = 4
TIMEOUT_SECONDS = 60
CHUNK_BYTES = 2**16
#: Seconds before the second attempt; doubled for each further one.
BACKOFF_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """File `number` of `files` (from 1) is `path`, `done` bytes of it are there."""

    path: str
    number: int
    files: int
    done: int
    bytes: int | None


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


def verify(folder: Path, entries: Sequence[Entry] | None = None) -> list[Fault]:
    """The files of `folder` that are missing or not as published, each named.

    A file whose digest nobody knows must be a list or label file that can be read.
    """
    found = (_fault(folder, entry) for entry in entries or manifest())
    return [fault for fault in found if fault is not None]


def _fault(folder: Path, entry: Entry) -> Fault | None:
    path = folder / entry.path
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
    except AnnotationError as error:
        return Fault(entry.path, "changed", str(error), known)
    return None


def fetch(
    source: str | Path | None,
    to: Path,
    progress: Callable[[Progress], None] = lambda step: None,
    entries: Sequence[Entry] | None = None,
) -> list[Fault]:
    """Bring the published set into `to`; what is still wrong there afterwards.

    `source`: a folder or a URL that has datasets_splits/ and labels/, None for the published
    repository. UserError if the folder is not there; StorageError if `to` cannot be written.
    """
    origin = _origin(source)
    wanted = tuple(entries or manifest())
    faults = []
    for number, entry in enumerate(wanted, start=1):
        fault = _fault(to, entry)
        if fault is not None:

            def report(done: int, number: int = number, entry: Entry = entry) -> None:
                progress(Progress(entry.path, number, len(wanted), done, entry.bytes))

            fault = _bring(origin, to, entry, report)
        progress(Progress(entry.path, number, len(wanted), entry.bytes or 0, entry.bytes))
        faults += [fault] if fault else []
    return faults


def _origin(source: str | Path | None) -> str | Path:
    if source is None:
        return PUBLISHED
    if isinstance(source, str) and urllib.parse.urlsplit(source).scheme in ("http", "https"):
        return source.rstrip("/")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UserError(f"{source!s} is neither a folder nor an http(s) address to fetch from")
    return folder


def _bring(
    origin: str | Path, to: Path, entry: Entry, report: Callable[[int], None]
) -> Fault | None:
    """Fetch one file beside its place, verify it there, rename it."""
    part = to / f"{entry.path}.part"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(origin, Path):
            _copy(origin / entry.path, part)
        else:
            _download(f"{origin}/{urllib.parse.quote(entry.path)}", part, entry.bytes, report)
        aside = entry.model_copy(update={"path": f"{entry.path}.part"})
        fault = _fault(to, aside)
        if fault is not None:
            # Nothing that was wrong once may be continued from.
            part.unlink(missing_ok=True)
            return Fault(entry.path, fault.kind, f"{fault.detail}; not kept", fault.known)
        part.replace(to / entry.path)
    except _Unavailable as error:
        return Fault(entry.path, "unavailable", str(error), entry.sha256 is not None)
    except OSError as error:
        raise storage_error(to / entry.path, error) from error
    return None


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise _Unavailable(f"{source} is not there")
    shutil.copyfile(source, part)


def _download(url: str, part: Path, size: int | None, report: Callable[[int], None]) -> None:
    """Fill `part` from `url`, going on from what it holds, with a few attempts."""
    for attempt in range(ATTEMPTS):
        try:
            _continue(url, part, size, report)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _Unavailable(f"{url}: HTTP {error.code} {error.reason}") from error
            cause: Exception = error
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            cause = error
        if attempt < ATTEMPTS - 1:
            time.sleep(BACKOFF_SECONDS * 2**attempt)
    raise _Unavailable(f"{url}: {cause} ({ATTEMPTS} attempts)") from cause


def _continue(url: str, part: Path, size: int | None, report: Callable[[int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        # A server that knows no ranges sends the whole file again.
        going_on = answer.status == HTTPStatus.PARTIAL_CONTENT
        expected = answer.headers.get("Content-Length")
        with part.open("ab" if going_on else "wb") as file:
            received = _receive(answer, file, have if going_on else 0, report)
    if expected is not None and received < int(expected):
        raise ConnectionError(f"{received} of {expected} bytes came")


def _receive(answer: IO[bytes], file: IO[bytes], start: int, report: Callable[[int], None]) -> int:
    received = 0
    while chunk := answer.read(CHUNK_BYTES):
        file.write(chunk)
        received += len(chunk)
        report(start + received)
    return received
