"""Seeking with decord, and whether it is right in a file and saves time (SPEC 3).

decord seeks to a key frame and counts on from there. That is exact where every packet is one
shown frame with its own time, and no frame after a key frame is shown before it; elsewhere decord
silently returns other frames. Always one thread, so that files with hidden frames open and frames
do not depend on timing.
"""

from __future__ import annotations

import importlib
import importlib.util
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from tcclip.data.decode.pyav_reader import DecodingError, Frames, open_video


def decord_installed() -> bool:
    """Whether decord is installed: it is built for few platforms."""
    return importlib.util.find_spec("decord") is not None


class DecordReader:
    """An open file. Raises DecodingError, with decord's message, whatever decord raised."""

    def __init__(self, path: Path) -> None:
        decord = importlib.import_module("decord")
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


@dataclass(frozen=True)
class PacketIndex:
    """How many frames a file has, and the indices of the key frames."""

    frames: int
    key_frames: tuple[int, ...]

    def seeking_is_faster(self, wanted: Sequence[int]) -> bool:
        """Whether seeking decodes clearly fewer frames for the indices `wanted` (ascending)."""
        decoded, position = 0, -1
        for index in wanted:
            key_frame = self.key_frames[bisect_right(self.key_frames, index) - 1]
            decoded += index - max(key_frame - 1, position)
            position = index
        # Measured: decord is faster once it skips about a quarter of the frames.
        return decoded < 0.75 * self.frames


def read_packet_index(path: Path) -> PacketIndex:
    """The packets of `path`. DecodingError if it cannot be read, or decord's seeking goes wrong."""
    with open_video(path) as (container, stream):
        _refuse(_stream_problem(container.format.name, stream))
        try:
            packets = [packet for packet in container.demux(stream) if packet.size]
        except av.error.FFmpegError as error:
            raise DecodingError(f"cannot be read: {error.strerror}") from error
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
        frame_at = {time: index for index, time in enumerate(times)}
        key_frames = tuple(
            frame_at[packet.pts]
            for packet in packets
            if packet.is_keyframe and packet.pts in frame_at
        )
        _refuse(_packet_problem(packets, len(frame_at)))
        return PacketIndex(len(packets), key_frames)


def _refuse(problem: str) -> None:
    if problem:
        raise DecodingError(f"seeking is not exact here: {problem}")


def _stream_problem(container: str, stream: av.VideoStream) -> str:
    context = stream.codec_context
    if "mp4" not in container.split(","):
        return f"container {container}"
    if context.name != "h264":
        return f"codec {context.name}"
    if context.pix_fmt != "yuv420p":
        return f"pixel format {context.pix_fmt}"
    if stream.start_time not in (0, None):
        return f"starts at {stream.start_time}"
    return ""


def _packet_problem(packets: Sequence[av.Packet[av.VideoStream]], times: int) -> str:
    if times != len(packets) or not packets:
        return "packets without their own time"
    if any(packet.is_discard or packet.is_corrupt for packet in packets):
        return "packets that are not shown"
    if not packets[0].is_keyframe:
        return "does not start with a key frame"
    # In decode order, whatever follows a key frame must be shown after it.
    earliest = None
    for packet in reversed(packets):
        assert packet.pts is not None
        if packet.is_keyframe and earliest is not None and earliest < packet.pts:
            return "frames shown before the key frame they follow"
        earliest = packet.pts if earliest is None else min(earliest, packet.pts)
    return ""
