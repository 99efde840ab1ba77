"""Videos where people really have them: as listed, flat, or in class folders (SPEC 6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

#: What a listed .mp4 or .webm may be kept as instead.
VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".3gp")


@dataclass(frozen=True)
class Locator:
    """Finds a listed video under `folder`: exactly there, else anywhere below by its name.

    A video is looked for by its file name, then by its name without the ending, where only one
    video is called so; one under replacement/ comes first (Kinetics' replaced files).
    """

    folder: Path

    def __call__(self, path: str) -> Path:
        """The file of a list's entry; where it is not there, the place it should be."""
        direct = self.folder / path
        if direct.is_file():
            return direct
        name = PurePosixPath(path)
        by_name, by_stem = _index(self.folder)
        return by_name.get(name.name) or by_stem.get(name.stem) or direct


@lru_cache(maxsize=32)
def _index(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """File name -> file and stem -> file, of all videos below `folder`. Read once a process."""
    files = [
        Path(place) / name
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(VIDEO_SUFFIXES)
    ]
    return _unique(files, folder, lambda file: file.name), _unique(
        files, folder, lambda file: file.stem
    )


def _unique(files: list[Path], folder: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """Files by key, of those that can be told apart by it.

    Two videos of one name in two class folders may be different videos: neither stands in for a
    third. Kinetics' replacement/ is meant to hold the same names, and comes first.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(key(file), []).append(file)
    chosen = {}
    for name, alike in found.items():
        replaced = [f for f in alike if "replacement" in f.relative_to(folder).parts]
        kept = replaced or alike
        if len(kept) == 1:
            chosen[name] = kept[0]
    return chosen
