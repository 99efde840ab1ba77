"""Decoding with PyAV: the frames that ffmpeg shows, from every container (SPEC 3).

Those that an edit list hides are left out; all come upright and of the first one's size. Damaged
packets are skipped and counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from tcclip.data.decode.key_frames import MIN_GROUPS, Groups, claimed_key_frames, find_groups
from tcclip.data.decode.pixels import Frames, RgbConverter
from tcclip.data.decode.video_file import DecodingError, open_video

#: Decoded frames of a file that does not say how many there are, are kept up to this size.
HOLD_BYTES = 192 * 2**20

#: From the number of frames in the file to the wanted indices. May be called up to three times:
#: with the number the file gives, with one less, which is often right, and last with the right one.
ChooseFrames = Callable[[int], Sequence[int] | NDArray[np.int64]]


def read(path: Path, choose: ChooseFrames) -> tuple[Frames, int, int]:
    """As `read_sequentially`, the same pixels, but without decoding every frame of a file with many
    key frames, where its bits prove that this changes nothing.

    What they cannot prove: damage within the header of a frame that is not decoded may cost that
    frame, and give the others lower numbers when every frame is decoded.
    """
    with open_video(path) as (container, stream):
        if claimed_key_frames(stream) < MIN_GROUPS:
            return _read_all(path, container, stream, choose)
        try:
            groups = find_groups(container, stream)
            if len(groups.starts) >= MIN_GROUPS:
                return *_read_groups(container, stream, groups, choose), 0
        except (DecodingError, av.error.FFmpegError):
            pass  # in doubt: every frame, in a file opened anew
    return read_sequentially(path, choose)


def read_sequentially(path: Path, choose: ChooseFrames) -> tuple[Frames, int, int]:
    """(chosen frames (T, H, W, 3), frames in the file, damaged packets), decoding every frame.

    DecodingError if no frame can be decoded; ValueError for an index that is not in the file.
    """
    with open_video(path) as (container, stream):
        return _read_all(path, container, stream, choose)


def _read_all(
    path: Path, container: InputContainer, stream: av.VideoStream, choose: ChooseFrames
) -> tuple[Frames, int, int]:
    frames = FrameStream(container, stream)
    likely = _likely_frames(stream, choose)
    held: dict[int, av.VideoFrame] = {}
    total = size = 0
    for frame in frames:
        if likely is None or total in likely:
            held[total] = frame
            size += sum(plane.buffer_size for plane in frame.planes)
        total += 1
        if likely is None and size > HOLD_BYTES:
            total += sum(1 for _ in frames)
            return _read_again(path, total, choose)
    wanted = checked_indices(choose, total)
    if not held.keys() >= set(wanted):
        return _read_again(path, total, choose)
    to_rgb = RgbConverter()
    # The first frame is converted first: all others take its size.
    found = {index: to_rgb(held[index]) for index in sorted({0, *wanted})}
    return np.stack([found[index] for index in wanted]), total, frames.damaged


def _likely_frames(stream: av.VideoStream, choose: ChooseFrames) -> set[int] | None:
    """The frames that `choose` wants if the file holds as many as it says, or one less, as AVI
    files with B-frames do; None if it does not say. Holding these alone saves a tenth of the time,
    and half of it where all would not fit.
    """
    if stream.frames < 2:
        return None
    return {0, *map(int, choose(stream.frames)), *map(int, choose(stream.frames - 1))}


def _read_again(path: Path, total: int, choose: ChooseFrames) -> tuple[Frames, int, int]:
    """As `read_sequentially`, of a file that is known to hold `total` frames."""
    wanted = checked_indices(choose, total)
    keep, to_rgb = {0, *wanted}, RgbConverter()
    with open_video(path) as video:
        frames = FrameStream(*video)
        found = {index: to_rgb(frame) for index, frame in enumerate(frames) if index in keep}
    return np.stack([found[index] for index in wanted]), total, frames.damaged


def _read_groups(
    container: InputContainer, stream: av.VideoStream, groups: Groups, choose: ChooseFrames
) -> tuple[Frames, int]:
    """(chosen frames, frames in the file), decoding the groups of the chosen ones.

    Raises DecodingError or FFmpegError as soon as anything is not as `groups` says.
    """
    context = stream.codec_context
    context.thread_count = 1
    context.options = {"err_detect": "explode"}
    total = len(groups.times)
    wanted = checked_indices(choose, total)
    to_rgb, found = RgbConverter(), dict[int, Frames]()
    keep = sorted({0, *wanted})
    while keep:
        group = bisect_right(groups.starts, keep[0]) - 1
        end = groups.starts[group + 1] if group + 1 < len(groups.starts) else total
        here = [index for index in keep if index < end]
        keep = keep[len(here) :]
        container.seek(groups.times[groups.starts[group]], stream=stream)
        context.flush_buffers()
        frames = (frame for packet in container.demux(stream) for frame in packet.decode())
        for index, frame in zip(count(groups.starts[group]), frames):
            if frame.pts != groups.times[index] or frame.is_corrupt:
                raise DecodingError("other frames than the packets say")
            if index in here:
                found[index] = to_rgb(frame)
            if index == here[-1]:
                break
        else:
            raise DecodingError("fewer frames than the packets say")
    return np.stack([found[index] for index in wanted]), total


def checked_indices(choose: ChooseFrames, total: int) -> list[int]:
    """What `choose` wants of `total` frames. DecodingError if there is no frame."""
    if total == 0:
        raise DecodingError("no frame could be decoded")
    wanted = [int(index) for index in choose(total)]
    if not wanted or min(wanted) < 0 or max(wanted) >= total:
        raise ValueError(f"indices {wanted} are not in a video of {total} frames")
    return wanted


class FrameStream:
    """All frames of an open file. `damaged`: packets so far that could not be decoded."""

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream, self.damaged = container, stream, 0
        # One thread a decoder: the loader's workers are the parallelism.
        stream.codec_context.thread_count = 1

    def __iter__(self) -> Iterator[av.VideoFrame]:
        """The frames in the order they are shown."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except av.error.FFmpegError:
                    self.damaged += 1
        except av.error.FFmpegError:
            # As ffmpeg does: what came before the damage counts.
            self.damaged += 1
