"""The file of one video: some of its prepared frames, each with its checksum.

A line of JSON with its own checksum, then the frames. Not compressed: zlib would save a sixth to a
third, and take 16 ms for a view that is read and checked in half a millisecond.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]


class Damaged(Exception):
    """An entry that does not hold what was written."""


@dataclass(frozen=True)
class Header:
    """What an entry says of its frames.

    `name`: that of its file. `total`: frames in the video; `reader`: the method that read them.
    `exact`: a frame is the same whatever others are read with it; it is labelled by its index.
    Elsewhere a draw's frames belong together, and are labelled by the draw. `shape`: of a frame.
    `checks`: label -> checksum, in the order of the frames.
    """

    name: str
    total: int
    reader: str
    exact: bool
    shape: tuple[int, ...]
    checks: Mapping[str, int]

    def frames(self, file: BinaryIO, start: int, labels: Sequence[str]) -> Frames:
        """(len(labels), *shape) the frames `labels`, all in the entry; they begin at `start`."""
        places = {label: place for place, label in enumerate(self.checks)}
        frames = np.empty((len(labels), *self.shape), np.uint8)
        size = math.prod(self.shape)
        for frame, label in zip(frames, labels, strict=True):
            read = os.preadv(file.fileno(), [frame.data], start + places[label] * size)
            if read != size or checksum(frame.data) != self.checks[label]:
                raise Damaged(self.name)
        return frames


def frame_labels(indices: Sequence[int], exact: bool) -> list[str]:
    """The labels of a draw's frames; see `Header.exact`."""
    if exact:
        return [str(index) for index in indices]
    draw = " ".join(map(str, indices))
    return [f"{place} of {draw}" for place in range(len(indices))]


def packed(
    name: str, total: int, reader: str, exact: bool, frames: Mapping[str, Frames]
) -> list[bytes | memoryview]:
    """The parts of an entry's file: see `Header`, and the frames by their labels."""
    shape = next(iter(frames.values())).shape
    data = {label: np.ascontiguousarray(one).data.cast("B") for label, one in frames.items()}
    checks = {label: checksum(one) for label, one in data.items()}
    text = json.dumps(asdict(Header(name, total, reader, exact, shape, checks))).encode()
    line = b"%016x %s\n" % (checksum(text), text)
    return [line, *data.values()]


def checksum(data: bytes | memoryview) -> int:
    """64 bits of XXH3: they tell damage, not malice, at 20 to 35 GB/s (CRC-32: 2 to 3)."""
    import xxhash  # here, since all of `tcclip.data` can be imported without it

    return xxhash.xxh3_64_intdigest(data)


def read_header(file: BinaryIO, name: str) -> Header:
    """The header of the open entry `name`, which leaves `file` at the first frame."""
    check, _, text = file.readline().rstrip(b"\n").partition(b" ")
    try:
        if int(check, 16) != checksum(text):
            raise Damaged(name)
        fields = json.loads(text)
        header = Header(**{**fields, "shape": tuple(fields["shape"])})
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(name) from error
    if header.name != name:
        raise Damaged(name)
    return header
