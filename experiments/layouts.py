"""Videos where people really have them: as listed, flat, or in class folders (SPEC 6)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

#: What a listed .mp4 or .webm may be kept as instead.
VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".3gp")


@dataclass(frozen=True)
class Locator:
    """Finds a listed video under `folder`: exactly there, else anywhere below by its name.

    A video is looked for by its file name, then by its name without the ending. Of several, one
    under replacement/ comes first (Kinetics' replaced files), then the first by path.
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
    # Of equal names the last one stays in the dictionary.
    files.sort(reverse=True)
    files.sort(key=lambda file: "replacement" in file.relative_to(folder).parts)
    return {file.name: file for file in files}, {file.stem: file for file in files}
