"""What a killed process leaves half-written, and who may remove it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from results.reading.location import Location
from results.reading.process_id import gone, place

#: From elsewhere nobody can tell a dead writer from a slow one; no write takes this long.
OLD_SECONDS = 24 * 3600.0
#: Temporary files of `files` and local folders of `files.scratch`: whose they are.
#: (A database that is being made has a journal beside it.)
_TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{16})-(\d+)-[0-9a-f]{8}\.tmp(?:-journal|-wal|-shm)?")
_SCRATCH = re.compile(r"tcclip-([0-9a-f]{16})-(\d+)-\w+")
#: What only the holder of a run's lease writes: files of its folder, and whole folders in it.
_HOLDERS = ("metrics.jsonl", "result.json", "run.log")
_HOLDERS_FOLDERS = ("checkpoints", "predictions")


def clear_abandoned(folder: Location) -> None:
    """Remove the temporary files in `folder` whose writer is known to be dead.

    Others' live writers are at work in a run's folder: sweeps on its spec, who competes for it on
    its lease. A store has no temporary files.
    """
    if not isinstance(folder, Path) or not folder.is_dir():
        return
    for name in os.listdir(folder):  # noqa: PTH208  # names are enough
        match = _TEMPORARY.fullmatch(name)
        if match is not None and _dead(match[2], int(match[3]), folder / name):
            _remove(folder / name)


def clear_attempts(folder: Location) -> None:
    """Remove what earlier attempts on a run left half-written, here and in its folder.

    For the holder of the run's lease: nobody else may write checkpoints, metrics and results.
    """
    clear_scratch()
    clear_abandoned(folder)
    if not isinstance(folder, Path):
        return
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and match[1] in _HOLDERS:
            _remove(path)
    for name in _HOLDERS_FOLDERS:
        for path in (folder / name).rglob(".*"):
            # safetensors writes `.tmpXXXXXX` beside its file.
            if path.name.endswith(".tmp") or path.name.startswith(".tmp"):
                _remove(path)


def clear_scratch() -> None:
    """Remove the local scratch folders of processes that are gone."""
    root = Path(tempfile.gettempdir())
    for path in root.glob("tcclip-*"):
        match = _SCRATCH.fullmatch(path.name)
        if match is not None and match[1] == place() and gone(int(match[2])):
            shutil.rmtree(path, ignore_errors=True)


def _dead(where: str, pid: int, path: Path) -> bool:
    if where == place():
        return gone(pid)
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > OLD_SECONDS
    return False


def _remove(path: Path) -> None:
    with suppress(OSError):  # what cannot be removed is in nobody's way
        path.unlink(missing_ok=True)
