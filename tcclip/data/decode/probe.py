"""What a file's packets say, without decoding: whether seeking in it is right, and pays.

decord seeks to key frames and counts on from there. That is right where every packet is one
shown frame with a time of its own and no frame after a key frame is shown before it; elsewhere
it silently returns other frames (SPEC 3).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from tcclip.data.decode.sequential import DecodingError, opened


@dataclass(frozen=True)
class Survey:
    """A file's packets. `wrong`: why seeking by decord is wrong here; "" if it is right.

    `frames`: how many, certain only where seeking is right. `keys`: the key frames' indices.
    """

    frames: int
    keys: tuple[int, ...]
    wrong: str

    def seeking_pays(self, wanted: Sequence[int]) -> bool:
        """Whether a reader that seeks decodes clearly fewer frames for `wanted` (ascending)."""
        decoded, position = 0, -1
        for index in wanted:
            key = self.keys[bisect_right(self.keys, index) - 1]
            decoded += index - max(key - 1, position)
            position = index
        # decord seeks when that skips anything; measured, it pays from about a quarter saved.
        return decoded < 0.75 * self.frames


def survey(path: Path) -> Survey:
    """What the packets of `path` say. DecodingError if it cannot be opened or read to its end."""
    with opened(path) as (container, stream):
        wrong = _wrong_stream(container.format.name, stream)
        if wrong:
            return Survey(stream.frames, (), wrong)
        try:
            packets = [packet for packet in container.demux(stream) if packet.size]
        except av.error.FFmpegError as error:
            raise DecodingError(f"cannot be read: {error.strerror}") from error
        times = [packet.pts for packet in packets]
        shown = sorted(time for time in times if time is not None)
        places = {time: index for index, time in enumerate(shown)}
        keys = tuple(
            places[packet.pts] for packet in packets if packet.is_keyframe and packet.pts in places
        )
        return Survey(len(packets), keys, _wrong_packets(packets, len(places)))


def _wrong_stream(container: str, stream: av.VideoStream) -> str:
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


def _wrong_packets(packets: Sequence[av.Packet[av.VideoStream]], times: int) -> str:
    if times != len(packets) or not packets:
        return "packets without a time of their own"
    if any(packet.is_discard or packet.is_corrupt for packet in packets):
        return "packets that are not shown"
    if not packets[0].is_keyframe:
        return "does not start with a key frame"
    # In decode order, whatever follows a key frame must be shown after it.
    latest = None
    for packet in reversed(packets):
        assert packet.pts is not None
        if packet.is_keyframe and latest is not None and latest < packet.pts:
            return "frames shown before the key frame they follow"
        latest = packet.pts if latest is None else min(latest, packet.pts)
    return ""
