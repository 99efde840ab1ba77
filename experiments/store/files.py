"""Writing files that are either whole or not there, locally and in object stores.

Locally a file is written aside, synced and renamed; an object store's upload is whole by itself.
What a disk or a store's client raises comes out as StorageError. Reading: results/reading/location.
"""

from __future__ import annotations

import os
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from results.errors import StorageError
from results.reading.location import Location, read_bytes, scratch, storage_error, storage_errors
from results.reading.process_id import place

if TYPE_CHECKING:
    from upath import UPath

#: What a store answers to an exclusive creation that comes too late, or at the same moment.
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


# ---- Writing ----


def write_whole(
    path: Location, write: Callable[[Path], None], check: Callable[[], None] = lambda: None
) -> None:
    """Let `write` fill a local temporary file, which then becomes `path`.

    A reader sees the old file or the new one, never a part. The temporary file is removed when
    `write` fails, or `check`, which is called when only the last step is left. StorageError when
    the folder cannot be written or the disk is full.
    """
    try:
        with _temporary(path) as temporary:
            write(temporary)
            if isinstance(path, Path):
                sync(temporary)
            check()
            if isinstance(path, Path):
                temporary.replace(path)
                _sync_folder(path.parent)
            else:
                upload(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error


def write_text(path: Location, text: str, check: Callable[[], None] = lambda: None) -> None:
    """Write `text` to `path`, whole or not at all; see `write_whole`."""
    write_whole(path, lambda temporary: _write_bytes(temporary, text.encode()), check)


def upload(source: Path, path: UPath) -> None:
    """Make the local file `source` the content of `path` in a store. StorageError if it fails."""
    with storage_errors(path):
        path.fs.put_file(str(source), path.path)


def create_text(path: Location, text: str) -> bool:
    """Write `text` to `path` unless there is one: of several processes at once, one gets True.

    Locally by a hard link, which network file systems do as one step too; in an object store by
    a conditional write. False too if the folder is deleted meanwhile.
    """
    try:
        if isinstance(path, Path):
            return _linked(path, text)
        with storage_errors(path):
            return _created(path, text.encode())
    except OSError as error:
        raise storage_error(path, error) from error


def _linked(path: Path, text: str) -> bool:
    return create_whole(path, lambda temporary: _write_bytes(temporary, text.encode()))


def create_whole(path: Path, write: Callable[[Path], None]) -> bool:
    """Let `write` fill a temporary file beside `path`, which becomes `path` unless there is one.

    Of several processes at once, one gets True. StorageError when the folder cannot be written.
    """
    try:
        with _temporary(path) as temporary:
            write(temporary)
            sync(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                # A network's answer that got lost makes the client try again and meet its own.
                return temporary.stat().st_nlink == 2
            _sync_folder(path.parent)
            return True
    except FileNotFoundError:  # folder or temporary file were removed: another attempt's now
        return False
    except OSError as error:
        raise storage_error(path, error) from error


def _created(path: UPath, data: bytes) -> bool:
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except FileExistsError:
        pass
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        if answer.get("Error", {}).get("Code") not in _TAKEN:
            raise
    else:
        return True
    # An answer that got lost makes the client try again and meet its own.
    return read_bytes(path) == data


def check_exclusive(out: Location) -> None:
    """StorageError if a store cannot create a file only where there is none: leases need it."""
    if isinstance(out, Path):
        return
    probe = out / f".probe-{uuid.uuid4().hex}"
    try:
        if create_text(probe, "1") and not create_text(probe, "2"):
            return
    finally:
        remove(probe)
    raise StorageError(
        f"{out}: this store overwrites where it should create (no conditional writes), so two "
        "sweeps could take one run; choose another store with --out"
    )


@contextmanager
def _temporary(path: Location) -> Iterator[Path]:
    """A name for a temporary file: beside `path`, or in a folder of its own for a remote one."""
    if not isinstance(path, Path):
        with scratch() as folder:
            yield folder / path.name
        return
    # Process ids repeat in containers, so the place and some chance go into the name.
    rest = f"{place()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{rest}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
    finally:
        with suppress(OSError):  # the error that brought us here is the one to show
            temporary.unlink(missing_ok=True)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def sync(path: Path) -> None:
    """Have what was written to `path` on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """So that a rename is on the disk before what depends on it; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ---- Removing ----


def remove(path: Location) -> None:
    """Delete a file; nothing happens if there is none."""
    with storage_errors(path), suppress(FileNotFoundError, NotADirectoryError):
        if isinstance(path, Path):
            path.unlink()
        else:
            path.fs.rm_file(path.path)


def remove_all(path: Location) -> None:
    """Delete a file, or a folder with everything in it, if there is one."""
    if not isinstance(path, Path):
        with storage_errors(path), suppress(FileNotFoundError):
            path.fs.rm(path.path, recursive=True)
        return
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(path, error) from error
