"""Writing files that are either whole or not there, locally and in object stores; cleaning up.

Locally a file is written aside, synced and renamed; an object store's upload is whole by itself.
Errors of a disk or of a store's client are raised as StorageError. For reading, see
results/reading/location.py.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from results.errors import StorageError
from results.reading.location import Location, read_bytes, scratch, storage_error, storage_errors
from results.reading.process_id import gone, place

if TYPE_CHECKING:
    from upath import UPath

#: The age of a temporary file after which its writer elsewhere counts as dead: no write takes long.
OLD_SECONDS = 24 * 3600.0
#: Temporary files of `write_whole`, named after their process.
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{16})-(\d+)-[0-9a-f]{8}\.tmp")
#: Folders of `location.scratch_folder`.
_SCRATCH = re.compile(r"tcclip-([0-9a-f]{16})-(\d+)-\w+")
#: S3's error codes when a file to be created exists already, or is being created by another.
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


# ---- Writing ----


def write_whole(
    path: Location, write: Callable[[Path], object], check: Callable[[], None] = lambda: None
) -> None:
    """Let `write` fill a local temporary file, which then becomes `path`.

    `check` is called just before; if it or `write` fails, `path` is unchanged. StorageError when
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
                _sync_names(path.parent)
            else:
                upload(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error


def write_text(path: Location, text: str, check: Callable[[], None] = lambda: None) -> None:
    """Write `text` to `path`, whole or not at all; see `write_whole`."""
    write_whole(path, lambda temporary: temporary.write_bytes(text.encode()), check)


def upload(source: Path, path: UPath) -> None:
    """Copy the local file `source` to `path` in a store. StorageError if it fails."""
    with storage_errors(path):
        path.fs.put_file(str(source), path.path)


# ---- Creating ----


def create_text(path: Location, text: str) -> bool:
    """Write `text` to `path` unless the file exists; see `create_bytes`."""
    return create_bytes(path, text.encode())


def create_bytes(path: Location, data: bytes) -> bool:
    """Write `data` to `path` unless the file exists: of several processes, one gets True.

    By a hard link, or in an object store by a conditional write. False too if the folder is deleted
    in the meantime. StorageError when it cannot be written.
    """
    if not isinstance(path, Path):
        with storage_errors(path):
            return _create_remote(path, data)
    try:
        with _temporary(path) as temporary:
            temporary.write_bytes(data)
            sync(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                # A client whose first try got no reply tries again: the file is then this one.
                return temporary.stat().st_nlink == 2
            _sync_names(path.parent)
            return True
    except FileNotFoundError:  # another process deleted the folder or the temporary file
        return False
    except OSError as error:
        raise storage_error(path, error) from error


def _create_remote(path: UPath, data: bytes) -> bool:
    try:
        path.fs.pipe_file(path.path, data, mode="create")
        return True
    except FileExistsError:
        pass
    except OSError as error:
        response = getattr(error.__cause__, "response", {})
        if response.get("Error", {}).get("Code") not in _TAKEN:
            raise
    return read_bytes(path) == data  # as above: the file may be this one


def check_exclusive(out: Location) -> None:
    """StorageError if the store of `out` overwrites a file that was to be created: leases need it.

    One write after the other is enough to tell: the server of an s3:// store either refuses the
    second one (`If-None-Match: *`) or ignores the condition.
    """
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


# ---- Temporary files ----


@contextmanager
def _temporary(path: Location) -> Iterator[Path]:
    """A name for a temporary file: beside `path`, or in a folder of its own for a remote one."""
    if not isinstance(path, Path):
        with scratch() as folder:
            yield folder / path.name
        return
    # Containers repeat process ids: the place and a random part make the name unique.
    writer = f"{place()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
    finally:
        with suppress(OSError):  # must not hide the error of the write
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # not every file system can do that
        sync(folder)


# ---- Sizes, removing ----


def sizes(folder: Location) -> dict[str, int]:
    """The files in a folder and the folders in it: name relative to it -> bytes."""
    found: dict[str, int] = {}
    with storage_errors(folder), suppress(FileNotFoundError):
        if isinstance(folder, Path):
            for one in folder.rglob("*"):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    if one.is_file():
                        found[one.relative_to(folder).as_posix()] = one.stat().st_size
            return found
        own = folder.path.strip("/") + "/"
        infos = folder.fs.find(folder.path, detail=True).items()
        found = {name.strip("/").removeprefix(own): one["size"] for name, one in infos}
    return found


def remove(path: Location) -> None:
    """Delete a file, if there is one."""
    with storage_errors(path), suppress(FileNotFoundError, NotADirectoryError):
        if isinstance(path, Path):
            path.unlink()
        else:
            path.fs.rm_file(path.path)


def remove_all(path: Location) -> None:
    """Delete a folder with everything in it, if there is one."""
    with storage_errors(path), suppress(FileNotFoundError):
        if isinstance(path, Path):
            shutil.rmtree(path)
        else:
            path.fs.rm(path.path, recursive=True)


# ---- What killed processes left half-written ----


def clear_abandoned(folder: Location) -> None:
    """Remove the temporary files in `folder` whose writer is dead.

    Live processes may be writing there. A store has no temporary files.
    """
    if not isinstance(folder, Path):
        return
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None:
            continue
        with suppress(OSError):  # a file that cannot be removed does no harm
            old = time.time() - path.stat().st_mtime > OLD_SECONDS
            if gone(int(match[2])) if match[1] == place() else old:
                path.unlink()


def clear_attempts(folder: Location) -> None:
    """Remove what earlier attempts at a run left half-written, in its folder and on this machine.

    For the holder of the run's lease: nobody else may write checkpoints and predictions.
    """
    for path in Path(tempfile.gettempdir()).glob("tcclip-*"):
        match = _SCRATCH.fullmatch(path.name)
        if match is not None and match[1] == place() and gone(int(match[2])):
            shutil.rmtree(path, ignore_errors=True)
    clear_abandoned(folder)
    if not isinstance(folder, Path):
        return
    for name in ("checkpoints", "predictions"):
        for path in (folder / name).rglob(".*"):
            # safetensors writes `.tmpXXXXXX` beside its file.
            if path.name.endswith(".tmp") or path.name.startswith(".tmp"):
                with suppress(OSError):
                    path.unlink()
