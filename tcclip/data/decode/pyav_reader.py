"""Decoding with PyAV from the first frame on: exact for every container (SPEC 3).

Frames are those that ffmpeg shows: without the ones an edit list hides, rotated as the file says,
all of the first frame's size. Damaged packets are skipped and counted.
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
#: From the number of frames in the file to the wanted indices. May be called twice.
ChooseFrames = Callable[[int], Sequence[int] | NDArray[np.int64]]


class DecodingError(Exception):
    """This method cannot read the file; the message is the cause."""


def read_sequentially(path: Path, choose: ChooseFrames) -> tuple[Frames, int, int]:
    """(chosen frames (T, H, W, 3), frames in the file, damaged packets).

    DecodingError if no frame can be decoded; ValueError for an index that is not in the file.
    """
    stream = FrameStream(path)
    decoded: list[av.VideoFrame] = []
    size = 0
    for frame in stream.frames():
        size += sum(plane.buffer_size for plane in frame.planes)
        if size > HOLD_BYTES:
            return _read_large(path, choose)
        decoded.append(frame)
    to_rgb = RgbConverter()
    wanted = checked_indices(choose, len(decoded))
    # The first frame is converted first: all others take its size.
    found = {index: to_rgb(decoded[index]) for index in sorted({0, *wanted})}
    return np.stack([found[index] for index in wanted]), len(decoded), stream.damaged


def _read_large(path: Path, choose: ChooseFrames) -> tuple[Frames, int, int]:
    """As `read_sequentially`, in two passes: count the frames, then keep the chosen ones."""
    total = sum(1 for _ in FrameStream(path).frames())
    wanted = checked_indices(choose, total)
    to_rgb, stream = RgbConverter(), FrameStream(path)
    keep = {0, *wanted}
    found = {index: to_rgb(frame) for index, frame in enumerate(stream.frames()) if index in keep}
    return np.stack([found[index] for index in wanted]), total, stream.damaged


def checked_indices(choose: ChooseFrames, total: int) -> list[int]:
    """What `choose` wants of `total` frames. DecodingError if there is no frame."""
    if total == 0:
        raise DecodingError("no frame could be decoded")
    wanted = [int(index) for index in choose(total)]
    if not wanted or min(wanted) < 0 or max(wanted) >= total:
        raise ValueError(f"indices {wanted} are not in a video of {total} frames")
    return wanted


class FrameStream:
    """All frames of a file. `damaged`: packets so far that could not be decoded."""

    def __init__(self, path: Path) -> None:
        self.path, self.damaged = path, 0

    def frames(self) -> Iterator[av.VideoFrame]:
        """The frames in the order they are shown."""
        with open_video(self.path) as (container, stream):
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
def open_video(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """A file and its first video stream; DecodingError if it cannot be opened or has none."""
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except av.error.FFmpegError as error:
        raise DecodingError(f"cannot be opened: {error.strerror}") from error
    except ValueError as error:
        raise DecodingError(f"cannot be opened: {error}") from error
    with container:
        if not container.streams.video:
            raise DecodingError("the file has no video stream")
        stream = container.streams.video[0]
        try:
            width, height = stream.width, stream.height
        except AttributeError as error:
            # PyAV reads these from the decoder's context; a damaged header may name no decoder.
            raise DecodingError("no decoder for its video stream") from error
        if width * height > MAX_PIXELS:
            raise DecodingError(f"frames of {width} x {height} pixels")
        yield container, stream


class RgbConverter:
    """Decoded frames to RGB arrays, all of the first one's size."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: av.VideoFrame) -> Frames:
        """(H, W, 3) uint8, upright."""
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
