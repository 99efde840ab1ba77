"""The folders that are written to: output and cache."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from experiments.doctor.finding import Finding

GIB = 2**30
#: About what one full-size run keeps while it trains, and some.
FREE_DISK = 5 * GIB


def output(out: Path) -> Finding:
    """Where runs will be kept."""
    return local_folder("output folder", out, "--out", FREE_DISK)


def cache(folder: Path) -> Finding:
    """Where things made once are kept; what it needs is little."""
    return local_folder("cache folder", folder, "$TCCLIP_CACHE", 0)


def local_folder(name: str, folder: Path, option: str, wanted: int) -> Finding:
    """Whether files can be made, synced, renamed and locked in `folder`, or where it will be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    choose = f"make {place} a folder you may write to, or choose another with {option}"
    try:
        state = os.statvfs(place)
        _try_files(place)
    except OSError as error:
        return Finding(name, False, f"{folder} cannot be used: {error.strerror or error}", choose)
    free = state.f_bavail * state.f_frsize
    detail = f"{folder}{'' if place == folder else ' (will be made)'}, {free / GIB:.1f} GiB free"
    if free < wanted:
        room = f"free at least {wanted / GIB:.0f} GiB there, or choose another with {option}"
        return Finding(name, False, detail, room)
    return Finding(name, True, detail)


def _try_files(place: Path) -> None:
    """What the ledger does to files; OSError where the file system cannot."""
    with tempfile.TemporaryDirectory(dir=place, prefix=".tcclip-doctor-") as scratch:
        written = Path(scratch) / "written"
        with written.open("wb") as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
        written.replace(written.with_name("renamed"))
        descriptor = os.open(scratch, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
