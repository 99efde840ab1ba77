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

from tcclip.data.decode.decord_reader import DecordReader, decord_installed
from tcclip.data.decode.packet_index import read_packet_index
from tcclip.data.decode.pyav_reader import (
    ChooseFrames,
    DecodingError,
    checked_indices,
    read_sequentially,
)

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

    `mode`: "auto" seeks with decord where that is exact and faster, else reads sequentially with
    PyAV, else with decord; "decord" only where it is exact; "pyav"; "published" as the published
    numbers were read, wrong frames included. `exclude`: methods not to use; `on_attempt` is
    called with each method before it is tried. Raises UnreadableVideo if no method can read the
    file; ValueError for an index that is not in it.
    """
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file")
    causes = []
    for method in _methods(mode):
        # decord needs the packet index, which PyAV reads: without PyAV, neither can be used.
        if method in exclude or (method == "decord" and "pyav" in exclude):
            continue
        try:
            if method == "decord":
                clip = _seek_with_decord(path, choose, on_attempt, only_if_faster=mode == "auto")
            else:
                on_attempt(method)
                clip = _read_with(method, path, choose)
        except DecodingError as error:
            causes.append(f"{method}: {error}")
        else:
            if clip is not None:
                return clip
    raise UnreadableVideo(str(path), "; ".join(causes) or "no reader is left to try")


def _methods(mode: Reader) -> tuple[Method, ...]:
    if mode == "auto":
        return ("decord", "pyav", "decord_forward") if decord_installed() else ("pyav",)
    if mode != "pyav" and not decord_installed():
        raise ValueError(f"reader {mode!r} needs decord, which is not installed; use 'auto'")
    return (mode,)


def _read_with(method: Method, path: Path, choose: ChooseFrames) -> Clip:
    if method == "pyav":
        frames, total, damaged = read_sequentially(path, choose)
        return Clip(frames, total, method, damaged)
    reader = DecordReader(path)
    if method == "published":
        total = len(reader)
        frames = reader.seek(checked_indices(choose, total))
    else:
        total = reader.count_frames()
        frames = reader.read_sequentially(checked_indices(choose, total))
    return Clip(frames, total, method)


def _seek_with_decord(
    path: Path, choose: ChooseFrames, on_attempt: Callable[[Method], None], *, only_if_faster: bool
) -> Clip | None:
    """The clip; with `only_if_faster`, None if seeking is not exact or not faster."""
    # PyAV reads the packet index: if that hangs, it is PyAV that hangs.
    on_attempt("pyav")
    try:
        packets = read_packet_index(path)
    except DecodingError:
        if only_if_faster:
            return None  # reading sequentially will tell what is wrong with the file
        raise
    if packets.inexact:
        if only_if_faster:
            return None
        raise DecodingError(f"seeking is not exact here: {packets.inexact}")
    wanted = checked_indices(choose, packets.frames)
    if only_if_faster and not packets.seeking_is_faster(sorted(wanted)):
        return None
    on_attempt("decord")
    reader = DecordReader(path)
    if len(reader) != packets.frames:
        raise DecodingError(f"decord counts {len(reader)} frames, the file {packets.frames}")
    return Clip(reader.seek(wanted), packets.frames, "decord")
