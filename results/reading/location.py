"""Reading files on a local file system or in an object store.

A `Location` is a `Path`, or a `UPath` for what fsspec reaches (`s3://bucket/out`). Errors of a disk
or of a store's client are raised as StorageError, with name and cause; a file that is missing is
FileNotFoundError or None, as each function says.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from results.errors import StorageError, UserError
from results.reading.process_id import place
from tcclip.text_files import read_regular

if TYPE_CHECKING:
    from upath import UPath

    Location = Path | UPath
else:
    Location = Any  # upath and fsspec take a while to import, and only a store needs them

#: No file of a run is larger, and none of its records: spec, result, failure, lease.
MOST_BYTES, RECORD_BYTES = 4 * 2**30, 64 * 2**20
#: What `location` accepts besides paths; memory:// is for tests.
SCHEMES = ("file", "s3", "memory")


def location(text: str | Path | UPath) -> Location:
    """A folder as a user wrote it: a path, made absolute, or a URI such as `s3://bucket/out`.

    Does not contact a store; see `check_reachable`. UserError for an unknown scheme, one whose
    package is not installed, or an address with a password in it.
    """
    name = str(text)
    scheme, separator, rest = name.partition("://")
    if not separator:
        return Path(name).absolute()
    if scheme not in SCHEMES:
        raise UserError(
            f"{name}: nothing is known of {scheme}://; known: a path, s3://BUCKET/FOLDER"
        )
    if scheme == "file":
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(name).path)).absolute()
    if "/" not in rest.strip("/"):
        raise UserError(f"{name} names no folder; give {scheme}://BUCKET/FOLDER")
    if "@" in rest.partition("/")[0]:
        raise UserError(
            f"an address of {scheme}:// with a password in it would be kept with the runs; give "
            "credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    from upath import UPath

    try:
        # Listings must show what other processes write, so they are not cached.
        path = UPath(name.rstrip("/"), use_listings_cache=False)
        path.fs  # noqa: B018  # imports the package that reaches the store
    except ImportError as error:
        raise UserError(
            f"{name}: {scheme}:// needs another package; on every node: "
            f"pip install 'tcclip-sweeps[{scheme}]'"
        ) from error
    return path


def check_reachable(path: Location) -> Location:
    """`path`, which need not exist yet, if files can be looked for there.

    StorageError if the store is out of reach, refuses the credentials or has no such bucket; or
    if a file is in the way of a folder.
    """
    if isinstance(path, Path):
        with storage_errors(path):  # a name may be too long
            existing = next(one for one in (path, *path.parents) if one.exists())
        if not existing.is_dir():
            raise StorageError(f"{path}: {existing} is a file; give another folder with --out")
        return path
    with storage_errors(path):
        try:
            path.fs.ls(path.path, detail=False)
        except FileNotFoundError:
            if path.drive and not path.fs.exists(path.drive):
                raise StorageError(
                    f"{path}: there is no bucket {path.drive!r} at this address, or none that "
                    "these credentials may see; make it, or correct --out or AWS_ENDPOINT_URL"
                ) from None
    return path


def is_local(path: Location) -> bool:
    """Whether `path` is on a file system of this machine (a network's included)."""
    return isinstance(path, Path)


# ---- Files ----


def read_bytes(path: Location, most: int = MOST_BYTES) -> bytes | None:
    """The bytes of `path`, None if there is no such file.

    StorageError for what is no regular file (a pipe would block), or has more bytes than `most`.
    """
    with storage_errors(path), suppress(FileNotFoundError, NotADirectoryError):
        if isinstance(path, Path):
            return read_regular(path, most)
        return _object(path, most)
    return None


def _object(path: UPath, most: int) -> bytes:
    """The bytes of an object of a store, of which no more are fetched than `most` and one."""
    try:
        data = bytes(path.fs.cat_file(path.path, start=0, end=most + 1))
    except OSError as error:  # an empty object has no such part
        if error.errno != errno.EINVAL or path.fs.info(path.path)["size"]:
            raise
        return b""
    if len(data) > most:
        raise StorageError(f"cannot read {path}: larger than {most / 2**20:g} MiB; move it away")
    return data


def stamp(path: Location) -> str | None:
    """A text that changes with the file's content; None if there is no such file."""
    try:
        with storage_errors(path):
            if isinstance(path, Path):
                found = path.stat()
                return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"
            info = path.fs.info(path.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    tags = [info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created")]
    return f"{info['size']} {next((tag for tag in tags if tag), '')}"


def exists(path: Location) -> bool:
    """Whether there is such a file or folder."""
    with storage_errors(path):
        return path.exists() if isinstance(path, Path) else bool(path.fs.exists(path.path))


def names(folder: Location) -> list[str]:
    """The names in `folder`, sorted; none if there is no such folder."""
    return sorted(name for name, _ in _entries(folder))


def folder_names(folder: Location) -> list[str]:
    """The names of the folders in `folder`, sorted; none if there is no such folder."""
    return sorted(name for name, is_folder in _entries(folder) if is_folder)


def _entries(folder: Location) -> list[tuple[str, bool]]:
    """(name, whether it is a folder) of everything in `folder`."""
    try:
        with storage_errors(folder):
            if isinstance(folder, Path):
                with os.scandir(folder) as entries:
                    return [(one.name, _is_folder(one)) for one in entries]
            found = folder.fs.ls(folder.path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    own = folder.path.strip("/")  # some stores list a folder in itself
    paths = [(one["name"].strip("/"), one["type"] == "directory") for one in found]
    return [(path.rpartition("/")[2], is_folder) for path, is_folder in paths if path != own]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def escaped(text: str) -> str:
    """`text` with what would steer a terminal, or is no Unicode (names of files may be in any
    encoding), as escapes; lines end as they do."""
    if text.isascii() and text.isprintable():
        return text
    kept = (one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
    return "".join(kept)


#: A text that may come from anywhere.
Text = Annotated[str, AfterValidator(escaped)]


# ---- Local copies ----


def scratch_folder() -> Path:
    """A new, empty local folder, named after its process so that others can clean up."""
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
def local_copy(path: Location) -> Iterator[Path]:
    """`path` itself if it is local, else a download that is removed afterwards.

    FileNotFoundError if there is no such file.
    """
    if isinstance(path, Path):
        yield path
        return
    with scratch() as folder:
        copy = folder / path.name
        with storage_errors(path):
            path.fs.get_file(path.path, str(copy))
        yield copy


# ---- Errors ----


@contextmanager
def storage_errors(path: Location) -> Iterator[None]:
    """Turns errors of the disk or of the store's client into StorageError, around one call."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError, StorageError):
        raise
    except Exception as error:
        if isinstance(path, Path):
            if isinstance(error, OSError):
                raise storage_error(path, error, "use") from error
            raise
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        raise StorageError(
            f"cannot reach {path}: {kind}{error}; check the network, and the address and "
            "credentials in the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), and "
            "start again: finished work is kept"
        ) from error


def storage_error(path: Location, error: OSError, what: str = "write") -> StorageError:
    """The error for a local `path` that cannot be written (or `what`): name, cause, what to do."""
    if error.errno in (errno.EINVAL, errno.EFBIG, errno.EISDIR, errno.ELOOP):
        return StorageError(f"cannot read {path}: {error.strerror}; move it away")
    return StorageError(
        f"cannot {what} {path}: {error.strerror or error}; "
        "choose another folder, or free space and permissions, and start again: "
        "finished work is kept"
    )
