"""Where decoding may begin within a file, proven by its bits: the flags of the container may lie.

A property of the file, found without decoding. Most files have few key frames and are read from
the first one on; then nothing but the container's index is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import av
from av.container import InputContainer

from tcclip.data.decode.video_file import DecodingError

#: Fewer groups than this save little or nothing for a clip's frames.
MIN_GROUPS = 8
#: H.264's kinds of unit (ITU-T H.264, table 7-1).
SLICE, IDR_SLICE, PARAMETER_SETS, KNOWN = 1, 5, {7, 8, 13, 15}, {1, 5, 6, 7, 8, 9, 12, 13, 15}
#: `VideoCodecContext.field_order`: unknown and progressive.
NOT_INTERLACED = (0, 1)


@dataclass(frozen=True)
class Groups:
    """Groups of frames that can be decoded each by itself.

    `times`: of all frames, in the order they are shown, in the stream's unit; `starts`: index of
    each group's first frame.
    """

    times: tuple[int, ...]
    starts: tuple[int, ...]


class _Packet(NamedTuple):
    """`parameters`: its H.264 parameter sets; `hidden`: not shown, or damaged; `renews`: has new
    parameters beside it."""

    time: int | None
    parameters: frozenset[bytes]
    is_start: bool
    hidden: bool
    renews: bool


def claimed_key_frames(stream: av.VideoStream) -> int:
    """How many frames the container calls key frames."""
    return sum(entry.is_keyframe for entry in stream.index_entries)


def find_groups(container: InputContainer, stream: av.VideoStream) -> Groups:
    """The groups of H.264 in MP4 or of a codec that knows only key frames.

    DecodingError with what is in doubt, if it is not certain that skipping gives the frames that
    reading from the first one on does.
    """
    if doubt := _stream_doubt(container.format.name, stream):
        raise DecodingError(doubt)
    try:
        packets = [_read(packet, stream) for packet in container.demux(stream) if packet.size]
    except av.error.FFmpegError as error:
        raise DecodingError(f"cannot be read: {error.strerror}") from error
    if doubt := _packet_doubt(packets):
        raise DecodingError(doubt)
    index = {time: number for number, time in enumerate(sorted(_times(packets)))}
    starts = _times([packet for packet in packets if packet.is_start])
    return Groups(tuple(index), tuple(index[time] for time in starts))


def _stream_doubt(container: str, stream: av.VideoStream) -> str:
    context = stream.codec_context
    if "mp4" not in container.split(","):
        return f"container {container}"
    if context.field_order not in NOT_INTERLACED:
        return "interlaced"
    if not stream.codec.intra_only and not (context.name == "h264" and _length_bytes(stream)):
        return f"codec {context.name}"
    return ""


def _read(packet: av.Packet[av.VideoStream], stream: av.VideoStream) -> _Packet:
    intra = stream.codec.intra_only
    units = [] if intra else _units(memoryview(packet), _length_bytes(stream))
    kinds = [unit[0] & 31 for unit in units]
    parameters = (unit for unit, kind in zip(units, kinds, strict=True) if kind in PARAMETER_SETS)
    return _Packet(
        packet.pts, frozenset(map(bytes, parameters)), intra or IDR_SLICE in kinds,
        packet.is_discard or packet.is_corrupt, packet.has_sidedata("new_extradata"),
    )  # fmt: skip


def _length_bytes(stream: av.VideoStream) -> int:
    """Bytes of a unit's length in MP4's form of H.264; 0 if the stream has another form."""
    header = stream.codec_context.extradata or b""
    return (header[4] & 3) + 1 if len(header) > 6 and header[0] == 1 else 0


def _units(packet: memoryview, length_bytes: int) -> list[memoryview]:
    """An H.264 packet's units, whose first bytes say their kinds.

    DecodingError unless they are whole and as usual.
    """
    units, slices, place = list[memoryview](), 0, 0
    while place < len(packet):
        begin = place + length_bytes
        place = begin + int.from_bytes(packet[place:begin])
        if not begin + 1 < place <= len(packet) or packet[begin] & 31 not in KNOWN:
            raise DecodingError("damaged or unusual packets")
        kind = packet[begin] & 31
        if kind in (SLICE, IDR_SLICE):
            # A first bit of 1: the slice begins with the frame's first block.
            if not slices and not packet[begin + 1] & 128:
                raise DecodingError("frames that begin in their middle")
            slices += 1
        units.append(packet[begin:place])
    if not slices:
        raise DecodingError("packets without a picture")
    return units


def _packet_doubt(packets: Sequence[_Packet]) -> str:
    if not packets or len(set(_times(packets))) != len(packets):
        return "packets without their own time"
    if any(packet.hidden for packet in packets):
        return "packets that are not shown"
    if not packets[0].is_start:
        return "does not start with a key frame"
    # Parameter sets on the way would be missed: every start must bring the same ones, or none.
    brought = {packet.parameters for packet in packets if packet.is_start}
    on_the_way = any(packet.parameters for packet in packets if not packet.is_start)
    if len(brought) > 1 or on_the_way or any(packet.renews for packet in packets):
        return "parameters that change on the way"
    # In decoding order, whatever follows a key frame must be shown after it.
    earliest = None
    for packet, time in zip(reversed(packets), reversed(_times(packets)), strict=True):
        if packet.is_start and earliest is not None and earliest < time:
            return "frames shown before the key frame they follow"
        earliest = time if earliest is None else min(earliest, time)
    return ""


def _times(packets: Sequence[_Packet]) -> list[int]:
    return [packet.time for packet in packets if packet.time is not None]
