"""Files that are either whole or not there, on local file systems and in object stores.

A `Location` is a `Path`, or a `UPath` for what fsspec reaches (`s3://bucket/out`). Locally a file
is written aside, synced and renamed; an object store's upload is whole by itself.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from upath import UPath

from experiments.errors import OutputUnusable

Location = Path | UPath


def location(text: str | Path) -> Location:
    """A folder from what a user wrote: a path, made absolute, or a URI such as `s3://bucket/out`."""
    if "://" not in str(text):
        return Path(text).absolute()
    # What other processes write has to be seen: no cached listings.
    return UPath(str(text), use_listings_cache=False)


def is_local(path: Location) -> bool:
    """Whether `path` is on a file system of this machine (a network's included)."""
    return isinstance(path, Path)


def write_whole(path: Location, write: Callable[[Path], None]) -> None:
    """Let `write` fill a local temporary file, which then becomes `path`.

    A reader sees the old file or the new one, never a part. The temporary file is removed when
    `write` fails. OutputUnusable when the folder cannot be written or the disk is full.
    """
    try:
        with _temporary(path) as temporary:
            write(temporary)
            if isinstance(path, Path):
                _synced(temporary)
                temporary.replace(path)
            else:
                path.fs.put_file(str(temporary), path.path)
    except OSError as error:
        raise unusable(path, error) from error


def write_text(path: Location, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_whole(path, lambda temporary: _write_bytes(temporary, text.encode()))


def create_text(path: Location, text: str) -> bool:
    """Write `text` to `path` unless there is one: of several processes at once, one gets True.

    Locally by a hard link, which network file systems do as one step too; in an object store by
    a conditional write.
    """
    try:
        if not isinstance(path, Path):
            try:
                path.fs.pipe_file(path.path, text.encode(), mode="create")
            except FileExistsError:
                return False
            return True
        with _temporary(path) as temporary:
            _write_bytes(temporary, text.encode())
            _synced(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            return True
    except OSError as error:
        raise unusable(path, error) from error


def read_bytes(path: Location) -> bytes | None:
    """The bytes of `path`, None if there is no such file."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return path.read_bytes()
    return None


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """`path` itself where it is local, else a download that is removed afterwards."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tcclip-") as folder:
        copy = Path(folder) / path.name
        path.fs.get_file(path.path, str(copy))
        yield copy


@contextmanager
def _temporary(path: Location) -> Iterator[Path]:
    """A name for a temporary file: beside `path`, or in a folder of its own for a remote one."""
    if not isinstance(path, Path):
        folder = Path(tempfile.mkdtemp(prefix="tcclip-"))
        try:
            yield folder / path.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
    finally:
        with suppress(OSError):  # the error that brought us here is the one to show
            temporary.unlink(missing_ok=True)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def unusable(path: Location, error: OSError) -> OutputUnusable:
    """The error to show when `path` cannot be written: its name, the cause, what to do."""
    return OutputUnusable(
        f"cannot write {path}: {error.strerror or error}; "
        "choose another folder with --out, or free space and permissions, and start again: "
        "finished work is kept"
    )
