"""Reading a packed video: a zip of JPEG frames, each stored as it is.

Any tool unpacks it: `000120.jpg` is frame 120 of the video. All names are of one length and
nothing is compressed, so that the zip's own directory is an array, and a frame is one read. What
is not exactly so is refused, and every frame's checksum is compared: no damage shows as pixels.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from tcclip.data.decode.pixels import Frames
from tcclip.data.decode.pyav_reader import ChooseFrames, checked_indices
from tcclip.data.decode.video_file import DecodingError

#: `wave.mp4` is packed as `wave.mp4.frames.zip`.
ENDING = ".frames.zip"
#: Frames of a zip without the fields for large ones.
MAX_FRAMES = 2**16 - 2
NAME, COMMENT = "{:06d}.jpg", "of {:010d} frames"
_NAME_BYTES, _COMMENT_BYTES = len(NAME.format(0)), len(COMMENT.format(0))
#: The record at the zip's end: entries, the directory's bytes and its place, the comment's length.
_END = struct.Struct("<4s4xHHIIH")
_END_SIGNATURE, _ENTRY_SIGNATURE = b"PK\5\6", 0x02014B50
#: The header before each stored frame.
_HEADER_BYTES = 30 + _NAME_BYTES
_ENTRY = np.dtype(
    [
        *[("signature", "<u4"), ("versions", "<u4"), ("flags", "<u2"), ("method", "<u2")],
        *[("time", "<u4"), ("crc", "<u4"), ("stored", "<u4"), ("size", "<u4")],
        *[("name_bytes", "<u2"), ("extra_bytes", "<u2"), ("comment_bytes", "<u2")],
        *[("disk", "<u2"), ("internal", "<u2"), ("external", "<u4"), ("offset", "<u4")],
        ("name", f"S{_NAME_BYTES}"),
    ]
)
#: What these fields are in every entry.
_FIXED = {
    "signature": _ENTRY_SIGNATURE, "flags": 0, "method": 0, "name_bytes": _NAME_BYTES,
    "extra_bytes": 0, "comment_bytes": 0, "disk": 0,
}  # fmt: skip


def is_packed(path: Path) -> bool:
    """Whether the file is a packed video, by its name."""
    return path.name.endswith(ENDING)


def kept_frames(total: int, most: int | None) -> NDArray[np.int64]:
    """Which of a video's frames are kept: the middle one of each of `most` equal parts, or all."""
    if most is None or total <= most:
        return np.arange(total)
    return (2 * np.arange(most) + 1) * total // (2 * most)


def read_packed(path: Path, choose: ChooseFrames) -> tuple[Frames, int]:
    """(the frames (T, H, W, 3) RGB uint8 that `choose` picks, frames in the video before packing).

    Where only some were kept, the one in whose part of the video an index is stands for it.
    DecodingError for a file that is not whole or not exactly as it was written; ValueError for an
    index that is not in the video.
    """
    try:
        with path.open("rb") as file:
            entries, total = _directory(file.fileno())
            wanted = checked_indices(choose, total)
            places = [index * len(entries) // total for index in wanted]
            first = _frame(file.fileno(), entries[places[0]])
            frames = np.empty((len(places), *first.shape), np.uint8)
            frames[0] = first
            for number, place in enumerate(places[1:], start=1):
                _frame(file.fileno(), entries[place], frames[number])
    except OSError as error:
        raise DecodingError(f"cannot be read: {error.strerror}") from error
    return frames, total


def _directory(descriptor: int) -> tuple[NDArray[np.void], int]:
    """(an `_ENTRY` for each kept frame, frames of the video)."""
    size = os.fstat(descriptor).st_size
    length = _END.size + _COMMENT_BYTES
    tail = os.pread(descriptor, length, max(0, size - length))
    if len(tail) != length or not tail.startswith(_END_SIGNATURE):
        raise DecodingError("cut short, or no packed video: its end is not that of one")
    _, count, _, length, start, _ = _END.unpack_from(tail)
    comment = tail[_END.size :].decode("ascii", "replace")
    number = comment[3:13]
    if not number.isdecimal() or comment != COMMENT.format(int(number)):
        raise DecodingError(f"no packed video: the comment at its end is {comment!r}")
    if length != count * _ENTRY.itemsize or start + length + len(tail) != size or not count:
        raise DecodingError("damaged: its directory is not where its end says")
    entries = np.frombuffer(os.pread(descriptor, length, start), _ENTRY)
    if any((entries[field] != value).any() for field, value in _FIXED.items()):
        raise DecodingError("damaged: an entry of its directory is not one of a packed video")
    return entries, int(number)


def _frame(descriptor: int, entry: np.void, into: Frames | None = None) -> Frames:
    """One frame, (H, W, 3), decoded into an array of its size if there is one."""
    size, name = int(entry["size"]), entry["name"].decode("ascii", "replace")
    data = os.pread(descriptor, size, int(entry["offset"]) + _HEADER_BYTES)
    if len(data) != size or zlib.crc32(data) != entry["crc"]:
        raise DecodingError(f"damaged: {name} has another checksum than when it was packed")
    try:
        frame: Frames = simplejpeg.decode_jpeg(data, "RGB", buffer=into)
    except ValueError as error:
        raise DecodingError(f"{name} cannot be decoded: {error}") from error
    if into is not None and frame.shape != into.shape:
        raise DecodingError(f"{name} is of another size than the others: not a packed video")
    return frame
