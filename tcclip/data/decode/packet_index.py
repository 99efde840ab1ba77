"""What a file's packets say, without decoding: whether seeking is exact, and whether it saves time.

decord seeks to a key frame and counts on from there. That is exact where every packet is one
shown frame with its own time, and no frame after a key frame is shown before it; elsewhere decord
silently returns other frames (SPEC 3).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from tcclip.data.decode.pyav_reader import DecodingError, open_video


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a file. `inexact`: why decord's seeking goes wrong here, "" if it does not.

    `frames`: how many, certain only where seeking is exact. `key_frames`: their indices.
    """

    frames: int
    key_frames: tuple[int, ...]
    inexact: str

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
    """The packets of `path`. DecodingError if it cannot be opened or read to its end."""
    with open_video(path) as (container, stream):
        inexact = _stream_problem(container.format.name, stream)
        if inexact:
            return PacketIndex(stream.frames, (), inexact)
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
        return PacketIndex(len(packets), key_frames, _packet_problem(packets, len(frame_at)))


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
