"""decord's three ways of reading (SPEC 3): as published, where seeking is exact, and sequentially.

Always one thread, so that files with hidden frames open and frames do not depend on timing.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from tcclip.data.decode.key_frames import claimed_key_frames, find_groups
from tcclip.data.decode.pixels import Frames, orientation
from tcclip.data.decode.video_file import DecodingError, is_cover, open_video


def decord_installed() -> bool:
    """Whether decord is installed: it is built for few platforms."""
    return importlib.util.find_spec("decord") is not None


def frames_if_exact(path: Path) -> int:
    """The number of frames of a file that decord's seeking is right for.

    DecodingError with the reason where it returns other frames or pixels than ffmpeg (SPEC 3).
    """
    with open_video(path) as (container, stream):
        try:
            groups = find_groups(container, stream)
            container.seek(0, stream=stream)
            first = next(container.decode(stream))
        except DecodingError as doubt:
            raise _inexact(str(doubt)) from doubt
        except (av.error.FFmpegError, StopIteration) as error:
            raise DecodingError("its first frame cannot be decoded") from error
        tracks = [one for one in container.streams.video if not is_cover(one)]
        reasons = {
            f"codec {stream.codec_context.name}": stream.codec_context.name != "h264",
            f"pixel format {stream.pix_fmt}": stream.pix_fmt != "yuv420p",
            "frames of odd size": stream.width % 2 or stream.height % 2,
            f"starts at {stream.start_time}": stream.start_time,
            "several video streams": len(tracks) > 1,
            # decord believes the container.
            "wrong key frames": claimed_key_frames(stream) != len(groups.starts),
            # decord turns by the container's word alone, and does not mirror.
            "turned or mirrored": orientation(first),
        }
    for reason, holds in reasons.items():
        if holds:
            raise _inexact(reason)
    return len(groups.times)


def _inexact(reason: str) -> DecodingError:
    return DecodingError(f"seeking is not exact here: {reason}; use the reader 'auto'")


class DecordReader:
    """An open file. Raises DecodingError, with decord's message, whatever decord raised."""

    def __init__(self, path: Path) -> None:
        decord = importlib.import_module("decord")
        decord.logging.set_level(decord.logging.QUIET)
        # Two unrelated types, as decord raises them.
        self._errors = (RuntimeError, decord.DECORDError)
        try:
            self._reader: Any = decord.VideoReader(str(path), num_threads=1)
        except self._errors as error:
            raise DecodingError(_cause(error)) from error

    def __len__(self) -> int:
        """decord's number of frames: not always the file's."""
        return len(self._reader)

    def seek(self, indices: Sequence[int]) -> Frames:
        """(T, H, W, 3) frames, one index at a time, as the published numbers were read."""
        try:
            return np.stack([_pixels(self._reader[int(index)]) for index in indices])
        except (*self._errors, IndexError) as error:
            raise DecodingError(_cause(error)) from error

    def count_frames(self) -> int:
        """How many frames there are when read one after another from the first one."""
        self._reader.seek(0)
        total = 0
        while self._next() is not None:
            total += 1
        return total

    def read_sequentially(self, indices: Sequence[int]) -> Frames:
        """(T, H, W, 3) frames found by reading from the first one on, without seeking."""
        self._reader.seek(0)
        wanted, found = set(indices), {}
        for index in range(max(indices) + 1):
            frame = self._next()
            if frame is None:
                raise DecodingError(f"ended at frame {index}")
            if index in wanted:
                found[index] = _pixels(frame)
        return np.stack([found[index] for index in indices])

    def _next(self) -> Any:
        try:
            return self._reader.next()
        except StopIteration:
            return None
        except self._errors as error:
            raise DecodingError(_cause(error)) from error


def _pixels(frame: Any) -> Frames:
    """(H, W, 3). decord takes the padding of narrow frames' rows for a fourth channel."""
    array: Frames = frame.asnumpy()
    height, width = array.shape[:2]
    return array.reshape(height, -1)[:, : width * 3].reshape(height, width, 3)


def _cause(error: Exception) -> str:
    """decord's message without its source line, address and stack trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = lines[0].rsplit("] ", 1)[-1]
    return message.split("Check failed: ", 1)[-1][:150]
