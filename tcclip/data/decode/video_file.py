"""Opening a video file with PyAV, and the one of its video streams that is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

#: A header that claims more pixels a frame than this is damaged, or no training video.
MAX_PIXELS = 8192 * 8192


class DecodingError(Exception):
    """This method cannot read the file; the message is the cause."""


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """A file and its shown stream; DecodingError if it cannot be opened or has no video."""
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except av.error.FFmpegError as error:
        raise DecodingError(f"cannot be opened: {error.strerror}") from error
    except ValueError as error:
        raise DecodingError(f"cannot be opened: {error}") from error
    with container:
        if not container.streams.video:
            raise DecodingError("the file has no video stream")
        stream = shown_stream(container.streams.video)
        pixels = _pixels(stream)
        if pixels is None:
            raise DecodingError("no decoder for its video stream")
        if pixels > MAX_PIXELS:
            raise DecodingError(f"frames of {stream.width} x {stream.height} pixels")
        yield container, stream


def shown_stream(streams: Sequence[av.VideoStream]) -> av.VideoStream:
    """The stream that the ffmpeg program takes of several: no cover picture if there is a video,
    then one flagged as default, then the one of most pixels, then the first.

    FFmpeg's av_find_best_stream, which decord uses, goes by bit rate instead of pixels.
    """

    def rank(stream: av.VideoStream) -> tuple[bool, int]:
        is_cover = Disposition.attached_pic in stream.disposition  # a title page
        default = Disposition.default in stream.disposition
        # The program's own sum: a default stream wins over any size that is read here.
        return not is_cover, (_pixels(stream) or 0) + 5_000_000 * default

    # max() takes the first of equal ones.
    return max(streams, key=rank)


def _pixels(stream: av.VideoStream) -> int | None:
    """Pixels a frame; None without a decoder for the stream."""
    try:
        return stream.width * stream.height
    except AttributeError:
        # PyAV reads these from the decoder's context; a damaged header may name no decoder.
        return None
