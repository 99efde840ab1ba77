"""The frames of a video file (SPEC 3): the right ones, the same ones every time.

`read_video` reads in this process; `tcclip.data.decode.decoder` reads in one that can be killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tcclip.data.decode.decord_reader import read_published
from tcclip.data.decode.images.frame_folder import read_frame_folder
from tcclip.data.decode.images.packed_video import is_packed, read_packed
from tcclip.data.decode.pyav_reader import ChooseFrames, read, read_sequentially
from tcclip.data.decode.video_file import DecodingError

if TYPE_CHECKING:
    from tcclip.config import Reader

#: What reads a file: PyAV, or decord as for the published numbers.
Method = Literal["pyav", "published"]


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

    `reader`: the method that read it. `damaged`: packets that could not be decoded.
    """

    frames: NDArray[np.uint8]
    total_frames: int
    reader: str
    damaged: int = 0


def read_video(
    path: Path,
    choose: ChooseFrames,
    mode: Reader = "auto",
    *,
    on_attempt: Callable[[Method], None] = lambda method: None,
) -> Clip:
    """The frames of `path` that `choose` picks from the file's number of frames.

    A folder is read as one of frames. `mode`: "auto" gives the frames that ffmpeg shows; "pyav" the
    same, decoding every frame; "published" as the published numbers were read, wrong frames
    included; "decord", of earlier versions, is "auto".
    `on_attempt` is called with the method before it is tried.
    Raises UnreadableVideo if the file cannot be read; ValueError for an index not in it.
    """
    try:
        if is_packed(path):
            return Clip(*read_packed(path, choose), "pack")
        if path.is_dir():
            return Clip(*read_frame_folder(path, choose), "frames")
    except DecodingError as error:
        raise UnreadableVideo(str(path), str(error)) from error
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file")
    method: Method = "published" if mode == "published" else "pyav"
    on_attempt(method)
    try:
        if mode == "published":
            return Clip(*read_published(path, choose), method)
        frames, total, damaged = (read_sequentially if mode == "pyav" else read)(path, choose)
    except DecodingError as error:
        raise UnreadableVideo(str(path), f"{method}: {error}") from error
    return Clip(frames, total, method, damaged)
