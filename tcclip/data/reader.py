"""The frames of a video file (SPEC 3): the right ones, always the same.

`read_video` reads in this process; `tcclip.data.decoder` does it in one that can be killed.
No torch here: the decoding process starts in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcclip.config import Reader
from tcclip.data import forward

#: Given the number of frames in the file, the indices wanted. Called once or twice: pure.
Choose = Callable[[int], Sequence[int] | NDArray[np.int64]]


class UnreadableVideo(Exception):
    """A video that cannot be read. `path` as it was given, `cause` in a few words."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}"


@dataclass(frozen=True)
class Clip:
    """Chosen frames (T, H, W, 3) RGB uint8 of a file of `total_frames` frames.

    `reader`: which one read it. `damaged`: packets that could not be decoded on the way.
    """

    frames: NDArray[np.uint8]
    total_frames: int
    reader: str
    damaged: int = 0


def read_video(path: Path, choose: Choose, mode: Reader = "auto") -> Clip:
    """The frames of `path` that `choose` picks from the file's number of frames.

    Raises UnreadableVideo with path and cause if nobody can read it; ValueError for an index
    that is not in the file.
    """
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file")
    frames, total, damaged = forward.read(path, choose)
    return Clip(frames, total, "pyav", damaged)
