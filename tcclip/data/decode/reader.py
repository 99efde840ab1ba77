"""The frames of a video file (SPEC 3): the right ones, the same ones every time.

`read_video` reads in this process; `tcclip.data.decode.decoder` reads in one that can be killed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tcclip.data.decode.decord_reader import DecordReader, decord_installed, frames_if_exact
from tcclip.data.decode.frame_folder import read_frame_folder
from tcclip.data.decode.pyav_reader import ChooseFrames, checked_indices, read, read_sequentially
from tcclip.data.decode.video_file import DecodingError

if TYPE_CHECKING:
    from tcclip.config import Reader

#: One way of reading a file; "decord_forward" reads sequentially with decord.
Method = Literal["pyav", "decord", "decord_forward", "published"]


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
    exclude: Collection[str] = (),
    on_attempt: Callable[[Method], None] = lambda method: None,
) -> Clip:
    """The frames of `path` that `choose` picks from the file's number of frames.

    A folder is read as one of frames. `mode`: "auto" gives the frames that ffmpeg shows, read by
    PyAV, or by decord from the first one on if PyAV fails; "pyav" the same, decoding every frame;
    "decord" seeks, only where that gives the same; "published" as the published numbers were read,
    wrong frames included.
    `exclude`: methods not to use; `on_attempt` is called with each method before it is tried.
    Raises UnreadableVideo if no method can read the file; ValueError for an index not in it.
    """
    if path.is_dir():
        try:
            return Clip(*read_frame_folder(path, choose), "frames")
        except DecodingError as error:
            raise UnreadableVideo(str(path), str(error)) from error
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file")
    causes = []
    for method in _methods(mode):
        if method in exclude:
            continue
        on_attempt(method)
        try:
            return _read_with(method, path, choose, mode)
        except DecodingError as error:
            causes.append(f"{method}: {error}")
    raise UnreadableVideo(str(path), "; ".join(causes) or "no reader is left to try")


def _methods(mode: Reader) -> tuple[Method, ...]:
    if mode == "auto":
        return ("pyav", "decord_forward") if decord_installed() else ("pyav",)
    if mode != "pyav" and not decord_installed():
        raise ValueError(f"reader {mode!r} needs decord, which is not installed; use 'auto'")
    return (mode,)


def _read_with(method: Method, path: Path, choose: ChooseFrames, mode: Reader) -> Clip:
    if method == "pyav":
        frames, total, damaged = (read if mode == "auto" else read_sequentially)(path, choose)
        return Clip(frames, total, method, damaged)
    exact = frames_if_exact(path) if method == "decord" else None
    reader = DecordReader(path)
    if method == "decord_forward":
        total = reader.count_frames()
        return Clip(reader.read_sequentially(checked_indices(choose, total)), total, method)
    total = len(reader)
    if exact not in (None, total):
        raise DecodingError(f"decord counts {total} frames, the file {exact}")
    return Clip(reader.seek(checked_indices(choose, total)), total, method)
