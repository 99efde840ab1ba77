"""Finds listed videos however they are stored: as listed, flat, or in class folders (SPEC 6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath

#: Formats a listed video may be stored in.
VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".3gp")


def find_video(folder: Path, path: str) -> Path:
    """The file of a list entry: at its path, else anywhere below by its name; else its path.

    The file name is looked for first, then the name without its suffix. A name that several videos
    have is not used, unless one of them is under replacement/ (Kinetics' replaced files).
    """
    direct = folder / path
    if direct.exists():
        return direct
    name = PurePosixPath(path)
    by_name, by_stem = _index(folder)
    return by_name.get(name.name) or by_stem.get(name.stem) or direct


@lru_cache(maxsize=32)
def _index(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """File name -> file and stem -> file, of all videos below `folder`; read once a process."""
    files = [
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(VIDEO_SUFFIXES)
    ]
    by_name = _unambiguous(files, folder, lambda file: file.name)
    return by_name, _unambiguous(files, folder, lambda file: file.stem)


def _unambiguous(files: list[Path], folder: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """Files by key, where only one file has it, or only one under replacement/.

    Videos of the same name in two class folders may be different videos.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(key(file), []).append(file)
    chosen = {}
    for name, same in found.items():
        replacements = [f for f in same if "replacement" in f.relative_to(folder).parts]
        candidates = replacements or same
        if len(candidates) == 1:
            chosen[name] = candidates[0]
    return chosen
