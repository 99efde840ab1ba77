"""Decoding forward from the first frame with PyAV: right for every container (SPEC 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


class DecodingError(Exception):
    """This reader cannot read the file; the message is the cause."""


def read(
    path: Path, choose: Callable[[int], Sequence[int] | NDArray[np.int64]]
) -> tuple[NDArray[np.uint8], int, int]:
    """(chosen frames (T, H, W, 3), frames in the file, damaged packets).

    The number of packets is taken for the number of frames; where decoding to the end shows
    another number, `choose` is asked again and the file is decoded again.
    """
    expected = max(1, count_packets(path))
    while True:
        wanted = [int(index) for index in choose(expected)]
        found, total, damaged = _gather(path, set(wanted))
        if total == 0:
            raise DecodingError("no frame could be decoded")
        if total == expected:
            break
        expected = total
    return np.stack([found[index] for index in wanted]), total, damaged


def count_packets(path: Path) -> int:
    """Video packets with data in the file: its number of frames, as far as the container tells."""
    with _open(path) as container:
        stream = _video(container)
        return sum(
            1 for packet in container.demux(stream) if packet.size and not packet.is_discard
        )


def _gather(path: Path, wanted: set[int]) -> tuple[dict[int, NDArray[np.uint8]], int, int]:
    found: dict[int, NDArray[np.uint8]] = {}
    total = 0
    damaged = [0]
    for frame in frames(path, damaged):
        if total in wanted:
            found[total] = frame.to_ndarray(format="rgb24")
        total += 1
    return found, total, damaged[0]


def frames(path: Path, damaged: list[int]) -> Iterator[av.VideoFrame]:
    """All frames in the order they are shown; `damaged[0]` counts packets without a frame."""
    with _open(path) as container:
        stream = _video(container)
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                damaged[0] += 1


def _open(path: Path) -> av.container.InputContainer:
    try:
        return av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodingError(str(error)) from error


def _video(container: av.container.InputContainer) -> av.VideoStream:
    if not container.streams.video:
        raise DecodingError("the file has no video stream")
    return container.streams.video[0]
