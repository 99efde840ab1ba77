"""The folders that are written to: output, on a file system or in an object store, and cache."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from experiments.doctor.report import Finding
from experiments.doctor.store import stored
from experiments.errors import UserError
from results.reading.location import location

GIB = 2**30
#: About what one full-size run keeps while it trains, and some.
FREE_DISK = 5 * GIB
OUTPUT = "output folder"


def output(out: str) -> Finding:
    """Where runs will be kept, as `--out` says: a folder, or a place in an object store."""
    try:
        place = location(out)
    except UserError as error:
        what, _, remedy = str(error).rpartition("; ")
        if isinstance(error.__cause__, ImportError):
            what, _, install = str(error).rpartition(": ")
            remedy = f"{install}, in the environment of every node"
        return Finding(OUTPUT, False, what or str(error), remedy or "correct --out")
    if isinstance(place, Path):
        return local_folder(OUTPUT, place, "--out", FREE_DISK, _link)
    return stored(OUTPUT, place)


def cache(folder: Path) -> Finding:
    """Where things made once are kept; what it needs is little."""
    return local_folder("cache folder", folder, "$TCCLIP_CACHE", 0, _lock)


def local_folder(
    name: str, folder: Path, option: str, wanted: int, claim: Callable[[Path], None]
) -> Finding:
    """Whether files can be made, synced, renamed and claimed in `folder`, or where it will be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    choose = f"make {place} a folder you may write to, or choose another with {option}"
    try:
        state = os.statvfs(place)
        _try_files(place, claim)
    except OSError as error:
        return Finding(name, False, f"{folder} cannot be used: {error.strerror or error}", choose)
    free = state.f_bavail * state.f_frsize
    detail = f"{folder}{'' if place == folder else ' (will be made)'}, {free / GIB:.1f} GiB free"
    if free < wanted:
        room = f"free at least {wanted / GIB:.0f} GiB there, or choose another with {option}"
        return Finding(name, False, detail, room)
    return Finding(name, True, detail)


def _try_files(place: Path, claim: Callable[[Path], None]) -> None:
    """What is done to files there; OSError where the file system cannot."""
    with tempfile.TemporaryDirectory(dir=place, prefix=".tcclip-doctor-") as scratch:
        written = Path(scratch) / "written"
        with written.open("wb") as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
        renamed = written.replace(written.with_name("renamed"))
        claim(renamed)


def _link(file: Path) -> None:
    """A lease is taken by a hard link."""
    try:
        os.link(file, file.with_name("linked"))
    except OSError as error:
        raise OSError(error.errno, f"no hard links there ({error.strerror})") from error


def _lock(file: Path) -> None:
    """The embedded videos are made under a lock."""
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OSError(error.errno, f"no locks there ({error.strerror})") from error
