"""Decoding forward from the first frame with PyAV: right for every container (SPEC 3).

Frames are those that ffmpeg shows: without the ones an edit list hides, turned as the file says,
all of the first frame's size. Damage costs the frames it hit and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

#: Decoded frames are kept until the file's end shows how many there are, up to this size.
HOLD_BYTES = 192 * 2**20
#: A header that claims more pixels a frame than this is damaged, or no training video.
MAX_PIXELS = 8192 * 8192

Frames = NDArray[np.uint8]


class DecodingError(Exception):
    """This reader cannot read the file; the message is the cause."""


def read(
    path: Path, choose: Callable[[int], Sequence[int] | NDArray[np.int64]]
) -> tuple[Frames, int, int]:
    """(chosen frames (T, H, W, 3), frames in the file, damaged packets).

    `choose` is given the number of frames and may be asked twice for a large file. Raises
    DecodingError if there is no frame at all.
    """
    walk = Walk(path)
    held: list[av.VideoFrame] = []
    size = 0
    for frame in walk.frames():
        size += sum(plane.buffer_size for plane in frame.planes)
        if size > HOLD_BYTES:
            return _read_large(path, choose)
        held.append(frame)
    convert = Converter()
    wanted = picked(choose, len(held))
    first = convert(held[0])
    found = {0: first} | {index: convert(held[index]) for index in sorted({*wanted} - {0})}
    return np.stack([found[index] for index in wanted]), len(held), walk.damaged


def _read_large(
    path: Path, choose: Callable[[int], Sequence[int] | NDArray[np.int64]]
) -> tuple[Frames, int, int]:
    """As `read`, without keeping every frame: the number of frames is counted first."""
    total = sum(1 for _ in Walk(path).frames())
    wanted = picked(choose, total)
    keep = {0, *wanted}
    convert, walk = Converter(), Walk(path)
    found = {n: convert(frame) for n, frame in enumerate(walk.frames()) if n in keep}
    return np.stack([found[index] for index in wanted]), total, walk.damaged


def picked(choose: Callable[[int], Sequence[int] | NDArray[np.int64]], total: int) -> list[int]:
    """What `choose` picks of `total` frames; DecodingError if there are none to pick from."""
    if total == 0:
        raise DecodingError("no frame could be decoded")
    wanted = [int(index) for index in choose(total)]
    if not wanted or min(wanted) < 0 or max(wanted) >= total:
        raise ValueError(f"indices {wanted} are not in a video of {total} frames")
    return wanted


class Walk:
    """One walk through a file. `damaged`: packets so far that could not be decoded."""

    def __init__(self, path: Path) -> None:
        self.path, self.damaged = path, 0

    def frames(self) -> Iterator[av.VideoFrame]:
        """All frames in the order they are shown."""
        with opened(self.path) as (container, stream):
            # One thread a decoder: the loader's workers are the parallelism.
            stream.codec_context.thread_count = 1
            for packet in self._packets(container, stream):
                try:
                    yield from packet.decode()
                except av.error.FFmpegError:
                    self.damaged += 1

    def _packets(
        self, container: InputContainer, stream: av.VideoStream
    ) -> Iterator[av.Packet[av.VideoStream]]:
        try:
            yield from container.demux(stream)
        except av.error.FFmpegError:
            # As ffmpeg does: what came before the damage counts.
            self.damaged += 1


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """A file and its first video stream; DecodingError if it cannot be opened or has none."""
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodingError(_cause(error)) from error
    with container:
        if not container.streams.video:
            raise DecodingError("the file has no video stream")
        stream = container.streams.video[0]
        try:
            width, height = stream.width, stream.height
        except AttributeError as error:
            # PyAV asks the decoder's context for these, and a damaged header may name no decoder.
            raise DecodingError("no decoder for its video stream") from error
        if width * height > MAX_PIXELS:
            raise DecodingError(f"frames of {width} x {height} pixels")
        yield container, stream


def _cause(error: Exception) -> str:
    if isinstance(error, av.error.FFmpegError):
        return f"cannot be opened: {error.strerror}"
    return f"cannot be opened: {error}"


class Converter:
    """Decoded frames to RGB, all of the first one's size."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: av.VideoFrame) -> Frames:
        """(H, W, 3) uint8, turned upright."""
        self._size = self._size or (frame.width, frame.height)
        # Bilinear is what decord uses too: bit for bit on 8-bit 4:2:0. Deeper formats take
        # ffmpeg's default, as bilinear loses more than 28 dB of their chroma detail.
        deep = any(component.bits > 8 for component in frame.format.components)
        rgb = self._reformatter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            interpolation=Interpolation.BICUBIC if deep else Interpolation.BILINEAR,
            threads=1,
        )
        return np.rot90(np.asarray(rgb.to_ndarray(), np.uint8), round(frame.rotation / 90) % 4)
