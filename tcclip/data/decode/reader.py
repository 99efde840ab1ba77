"""The frames of a video file (SPEC 3): the right ones, always the same.

`read_video` reads in this process; `tcclip.data.decode.decoder` does it in one that can be killed.
No torch here: the decoding process starts in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tcclip.data.decode import sequential as forward
from tcclip.data.decode.probe import Survey, survey
from tcclip.data.decode.seeking import Seeker, available
from tcclip.data.decode.sequential import DecodingError

if TYPE_CHECKING:
    from tcclip.config import Reader

#: Given the number of frames in the file, the indices wanted. May be asked twice: pure.
Choose = Callable[[int], Sequence[int] | NDArray[np.int64]]
#: One way of reading a file; "published" only where the mode asks for it.
Way = Literal["pyav", "decord", "decord_forward", "published"]


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

    `reader`: the way it was read. `damaged`: packets that could not be decoded on the way.
    """

    frames: NDArray[np.uint8]
    total_frames: int
    reader: str
    damaged: int = 0


def read_video(
    path: Path,
    choose: Choose,
    mode: Reader = "auto",
    *,
    without: Collection[str] = (),
    trying: Callable[[Way], None] = lambda way: None,
) -> Clip:
    """The frames of `path` that `choose` picks from the file's number of frames.

    `mode`: "auto" seeks with decord where that is right and pays, else reads forward with PyAV,
    else forward with decord; "decord" only where it is right; "pyav"; "published" as the
    published numbers were read, wrong frames included. `without`: ways not to be taken;
    `trying` is told of each before it is. Raises UnreadableVideo with path and cause if nobody
    can read the file; ValueError for an index that is not in it.
    """
    if not path.is_file():
        raise UnreadableVideo(str(path), "no such file")
    attempt = _Attempt(path, choose, trying)
    causes = []
    for way in _ways(mode):
        # Whether decord is right is asked of PyAV: where that may not be used, neither may be.
        if way in without or (way == "decord" and "pyav" in without):
            continue
        try:
            clip = attempt.by(way, only_if_it_pays=mode == "auto")
        except DecodingError as error:
            causes.append(f"{way}: {error}")
        else:
            if clip is not None:
                return clip
    raise UnreadableVideo(str(path), "; ".join(causes) or "no reader is left to try")


def _ways(mode: Reader) -> tuple[Way, ...]:
    if mode == "auto":
        return ("decord", "pyav", "decord_forward") if available() else ("pyav",)
    if mode != "pyav" and not available():
        raise ValueError(f"reader {mode!r} needs decord, which is not installed; use 'auto'")
    ways: dict[str, tuple[Way, ...]] = {
        "decord": ("decord",), "pyav": ("pyav",), "published": ("published",)
    }  # fmt: skip
    return ways[mode]


@dataclass
class _Attempt:
    """Reading one file, way by way."""

    path: Path
    choose: Choose
    trying: Callable[[Way], None]

    def by(self, way: Way, only_if_it_pays: bool) -> Clip | None:
        """The clip; None if seeking is not right or does not pay, and need not be done."""
        if way == "decord":
            return self._decord(only_if_it_pays)
        self.trying(way)
        if way == "pyav":
            frames, total, damaged = forward.read(self.path, self.choose)
            return Clip(frames, total, way, damaged)
        seeker = Seeker(self.path)
        total = len(seeker) if way == "published" else seeker.count()
        wanted = forward.picked(self.choose, total)
        frames = seeker.at(wanted) if way == "published" else seeker.forward(wanted)
        return Clip(frames, total, way)

    def _decord(self, only_if_it_pays: bool) -> Clip | None:
        # The survey is PyAV's work: if it hangs, it is PyAV that hangs.
        self.trying("pyav")
        try:
            found = survey(self.path)
        except DecodingError:
            if only_if_it_pays:
                return None  # what is wrong with the file, reading it forward will tell
            raise
        if found.wrong and only_if_it_pays:
            return None
        if found.wrong:
            raise DecodingError(f"seeking is not right here: {found.wrong}")
        wanted = forward.picked(self.choose, found.frames)
        if only_if_it_pays and not found.seeking_pays(sorted(wanted)):
            return None
        self.trying("decord")
        return self._seek(found, wanted)

    def _seek(self, found: Survey, wanted: list[int]) -> Clip:
        seeker = Seeker(self.path)
        if len(seeker) != found.frames:
            raise DecodingError(f"decord counts {len(seeker)} frames, the file {found.frames}")
        return Clip(seeker.at(wanted), found.frames, "decord")
