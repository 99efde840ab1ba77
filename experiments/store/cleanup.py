"""Removing files that a killed process left half-written."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from results.reading.location import Location, names
from results.reading.process_id import gone, place

#: The age of a temporary file after which its writer elsewhere counts as dead: no write takes long.
OLD_SECONDS = 24 * 3600.0
#: Temporary files of `files.write_whole`, named after their process.
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{16})-(\d+)-[0-9a-f]{8}\.tmp")
#: Folders of `location.scratch_folder`.
_SCRATCH = re.compile(r"tcclip-([0-9a-f]{16})-(\d+)-\w+")


def clear_abandoned(folder: Location) -> None:
    """Remove the temporary files in `folder` whose writer is dead.

    Live processes may be writing there. A store has no temporary files.
    """
    if not isinstance(folder, Path):
        return
    for name in names(folder):
        match = _TEMPORARY.fullmatch(name)
        if match is not None and _is_dead(match[1], int(match[2]), folder / name):
            _remove(folder / name)


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
                _remove(path)


def _is_dead(where: str, pid: int, path: Path) -> bool:
    """Whether process `pid` at the place `where`, which was writing `path`, is dead."""
    if where == place():
        return gone(pid)
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > OLD_SECONDS
    return False


def _remove(path: Path) -> None:
    with suppress(OSError):  # a file that cannot be removed does no harm
        path.unlink(missing_ok=True)
