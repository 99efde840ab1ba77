"""Files that are either whole or not there, on local file systems and in object stores.

A `Location` is a `Path`, or a `UPath` for what fsspec reaches (`s3://bucket/out`). Locally a file
is written aside, synced and renamed; an object store's upload is whole by itself. What a disk or a
store's client raises comes out as OutputUnusable, with name and cause.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.errors import OutputUnusable, UserError
from experiments.store.process_id import place

if TYPE_CHECKING:
    from upath import UPath

    Location = Path | UPath
else:
    Location = Any  # upath and fsspec take a while to import, and only a store needs them

#: What to install for the stores that are not reached without.
_PACKAGES = {
    "s3": "pip install 'tcclip-sweeps[s3]'",
    "gs": "pip install gcsfs",
    "az": "pip install adlfs",
}
#: What `location` takes. Only `file` and `s3` were tried against a real server.
SCHEMES = ("file", "s3", "gs", "az", "abfs", "memory")
#: How often a file is opened anew that a network's file system replaced while it was read.
_LOOKS = 5
#: What a store answers to an exclusive creation that comes too late, or at the same moment.
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class Stamp(NamedTuple):
    """What tells a file's content from an earlier one without reading it."""

    size: int
    tag: str


# ---- Locations ----


def location(text: str | Path | UPath) -> Location:
    """A folder from what a user wrote: a path, made absolute, or a URI such as `s3://bucket/out`.

    Nothing is asked of a store; see `reached`. UserError for a scheme nothing is known of, whose
    package is not installed, or with a password in it.
    """
    name = str(text)
    if "://" not in name:
        return Path(name).absolute()
    scheme, _, rest = name.partition("://")
    if scheme not in SCHEMES:
        raise UserError(
            f"{name}: nothing is known of {scheme}://; known: a path, s3://BUCKET/FOLDER"
        )
    if not rest.strip("/"):
        raise UserError(f"{name} names no folder; give {scheme}://BUCKET/FOLDER")
    if scheme == "file":
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(name).path)).absolute()
    if urllib.parse.urlsplit(name).password is not None:
        raise UserError(
            f"an address of {scheme}:// with a password in it would be kept with the runs; give "
            "credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    from upath import UPath

    try:
        # What other processes write has to be seen: no cached listings.
        path = UPath(name.rstrip("/"), use_listings_cache=False)
        path.fs  # noqa: B018  # imports the package that reaches the store
    except ImportError as error:
        install = _PACKAGES.get(scheme, str(error))
        raise UserError(f"{name}: {scheme}:// needs another package: {install}") from error
    except ValueError as error:
        raise UserError(f"{name}: {error}; known: a path, s3://BUCKET/FOLDER") from error
    if not path.name:
        raise UserError(f"{name} names no folder; give {scheme}://BUCKET/FOLDER")
    return path


def reached(path: Location) -> Location:
    """`path`, once its store has answered; it need not exist yet.

    OutputUnusable if the store is out of reach, refuses the credentials or has no such bucket; or
    if a file is in the way of a folder.
    """
    if isinstance(path, Path):
        there = next(one for one in (path, *path.parents) if one.exists())
        if not there.is_dir():
            raise OutputUnusable(f"{path}: {there} is a file; give another folder with --out")
        return path
    with _calling(path):
        try:
            path.fs.ls(path.path, detail=False)
        except FileNotFoundError:
            if path.drive and not path.fs.exists(path.drive):
                raise OutputUnusable(
                    f"{path}: there is no bucket {path.drive!r} at this address, or none that "
                    "these credentials may see; make it, or correct --out or AWS_ENDPOINT_URL"
                ) from None
    return path


def is_local(path: Location) -> bool:
    """Whether `path` is on a file system of this machine (a network's included)."""
    return isinstance(path, Path)


# ---- Writing ----


def write_whole(
    path: Location, write: Callable[[Path], None], check: Callable[[], None] = lambda: None
) -> None:
    """Let `write` fill a local temporary file, which then becomes `path`.

    A reader sees the old file or the new one, never a part. The temporary file is removed when
    `write` fails, or `check`, which is called when only the last step is left. OutputUnusable when
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
        raise unusable(path, error) from error


def write_text(path: Location, text: str, check: Callable[[], None] = lambda: None) -> None:
    """Write `text` to `path`, whole or not at all; see `write_whole`."""
    write_whole(path, lambda temporary: _write_bytes(temporary, text.encode()), check)


def upload(source: Path, path: UPath) -> None:
    """Make the local file `source` the content of `path` in a store. OutputUnusable if it fails."""
    with _calling(path):
        path.fs.put_file(str(source), path.path)


def create_text(path: Location, text: str) -> bool:
    """Write `text` to `path` unless there is one: of several processes at once, one gets True.

    Locally by a hard link, which network file systems do as one step too; in an object store by
    a conditional write. False too if the folder is deleted meanwhile.
    """
    try:
        if isinstance(path, Path):
            return _linked(path, text)
        with _calling(path):
            return _created(path, text.encode())
    except OSError as error:
        raise unusable(path, error) from error


def _linked(path: Path, text: str) -> bool:
    return create_whole(path, lambda temporary: _write_bytes(temporary, text.encode()))


def create_whole(path: Path, write: Callable[[Path], None]) -> bool:
    """Let `write` fill a temporary file beside `path`, which becomes `path` unless there is one.

    Of several processes at once, one gets True. OutputUnusable when the folder cannot be written.
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
        raise unusable(path, error) from error


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
    """OutputUnusable if a store cannot create a file only where there is none: leases need it."""
    if isinstance(out, Path):
        return
    probe = out / f".probe-{uuid.uuid4().hex}"
    try:
        if create_text(probe, "1") and not create_text(probe, "2"):
            return
    finally:
        remove(probe)
    raise OutputUnusable(
        f"{out}: this store overwrites where it should create (no conditional writes), so two "
        "sweeps could take one run; choose another store with --out"
    )


def scratch_folder() -> Path:
    """A new, empty local folder; its name says whose it is, for who clears up (`leftovers`)."""
    return Path(tempfile.mkdtemp(prefix=f"tcclip-{place()}-{os.getpid()}-"))


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty local folder, removed afterwards."""
    folder = scratch_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


# ---- Reading ----


def read_bytes(path: Location) -> bytes | None:
    """The bytes of `path`, None if there is no such file."""
    with _calling(path), suppress(FileNotFoundError, NotADirectoryError):
        return _read(path) if isinstance(path, Path) else bytes(path.fs.cat_file(path.path))
    return None


def _read(path: Path) -> bytes:
    for _ in range(_LOOKS):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return path.read_bytes()


def read_from(path: Location, start: int, end: int | None = None) -> bytes:
    """The bytes of `path` from `start` on, which lies within it, to before `end`.

    FileNotFoundError if there is no such file.
    """
    with _calling(path):
        if isinstance(path, Path):
            with path.open("rb") as file:
                file.seek(start)
                return file.read() if end is None else file.read(end - start)
        return bytes(path.fs.cat_file(path.path, start=start or None, end=end))


def stamp(path: Location) -> Stamp | None:
    """The file's size and what changes with its content; None if there is none."""
    try:
        with _calling(path):
            if isinstance(path, Path):
                found = path.stat()
                return Stamp(found.st_size, f"{found.st_mtime_ns} {found.st_ino}")
            info = path.fs.info(path.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    tags = [info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created")]
    return Stamp(int(info["size"] or 0), str(next((tag for tag in tags if tag), "")))


def exists(path: Location) -> bool:
    """Whether there is such a file or folder."""
    with _calling(path):
        return path.exists() if isinstance(path, Path) else bool(path.fs.exists(path.path))


def names(folder: Location) -> list[str]:
    """The names in `folder`, sorted; none if there is no such folder."""
    try:
        with _calling(folder):
            if isinstance(folder, Path):
                return sorted(os.listdir(folder))  # noqa: PTH208  # names are enough
            return sorted(_entry(one["name"]) for one in _entries(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folder_names(folder: Location) -> list[str]:
    """The names of the folders in `folder`, sorted; none if there is no such folder."""
    try:
        with _calling(folder):
            if isinstance(folder, Path):
                with os.scandir(folder) as entries:
                    return sorted(one.name for one in entries if one.is_dir())
            found = _entries(folder)
            return sorted(_entry(one["name"]) for one in found if one["type"] == "directory")
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entries(folder: UPath) -> list[dict[str, str]]:
    """What is in a remote folder; some stores keep a marker of the folder's own name in it."""
    found: list[dict[str, str]] = folder.fs.ls(folder.path, detail=True)
    own = folder.path.strip("/")
    return [one for one in found if one["name"].strip("/") != own]


def _entry(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """`path` itself where it is local, else a download that is removed afterwards.

    FileNotFoundError if there is no such file.
    """
    if isinstance(path, Path):
        yield path
        return
    with scratch() as folder:
        copy = folder / path.name
        with _calling(path):
            path.fs.get_file(path.path, str(copy))
        yield copy


# ---- Removing ----


def remove(path: Location) -> None:
    """Delete a file; nothing happens if there is none."""
    with _calling(path), suppress(FileNotFoundError, NotADirectoryError):
        if isinstance(path, Path):
            path.unlink()
        else:
            path.fs.rm_file(path.path)


def remove_all(path: Location) -> None:
    """Delete a file, or a folder with everything in it, if there is one."""
    if not isinstance(path, Path):
        with _calling(path), suppress(FileNotFoundError):
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
        raise unusable(path, error) from error


# ---- Errors ----


@contextmanager
def _calling(path: Location) -> Iterator[None]:
    """Around one call: errors of the disk or the store's client come out as OutputUnusable."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError, OutputUnusable):
        raise
    except Exception as error:
        if isinstance(path, Path):
            if isinstance(error, OSError):
                raise unusable(path, error, "use") from error
            raise
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        raise OutputUnusable(
            f"cannot reach {path}: {kind}{error}; check the network, and the address and "
            "credentials in the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), and "
            "start again: finished work is kept"
        ) from error


def unusable(path: Location, error: OSError, what: str = "write") -> OutputUnusable:
    """The error to show when `path` cannot be written (or `what`): name, cause, what to do."""
    return OutputUnusable(
        f"cannot {what} {path}: {error.strerror or error}; "
        "choose another folder with --out, or free space and permissions, and start again: "
        "finished work is kept"
    )
