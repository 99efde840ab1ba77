"""From decoded frames to RGB arrays, as the ffmpeg program shows them."""

from __future__ import annotations

import math
from typing import Any

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from tcclip.data.decode.video_file import DecodingError

Frames = NDArray[np.uint8]
#: Numbers of colour matrices (ITU-T H.273), and those that libswscale converts from.
UNSPECIFIED, BT2020, BT2020_CONSTANT = 2, 9, 10
COLOUR_MATRICES = {0, 1, UNSPECIFIED, 4, 5, 6, 7, BT2020}


class RgbConverter:
    """Decoded frames to RGB arrays, upright and all of the first one's size.

    Done by the filters that the ffmpeg program inserts, with their defaults: they heed colour
    matrix, range and chroma positions, and take an interlaced frame as a whole, as decord does.
    (PyAV's own conversion misplaces chroma of odd sizes and formats, and goes field by field.)
    """

    def __init__(self) -> None:
        self._resize = ""
        self._graph, self._made_for = Graph(), ""

    def __call__(self, frame: av.VideoFrame) -> Frames:
        """(H, W, 3) uint8. DecodingError for a format that cannot be converted."""
        try:
            return self._converted(frame)
        except av.error.FFmpegError as error:
            raise DecodingError(f"frames cannot be converted: {error.strerror}") from error

    def _converted(self, frame: av.VideoFrame) -> Frames:
        # Rare ones are refused since FFmpeg 8; before, they were taken for these.
        if frame.colorspace not in COLOUR_MATRICES:
            frame.colorspace = BT2020 if frame.colorspace == BT2020_CONSTANT else UNSPECIFIED
        filters = f"{_source(frame)},{orientation(frame)}"
        if filters != self._made_for:
            self._graph = _graph(f"{filters}{self._resize}format=rgb24,buffersink")
            self._made_for = filters
        self._graph.vpush(frame)
        rgb = np.asarray(self._graph.vpull().to_ndarray(), np.uint8)
        self._resize = self._resize or f"scale={rgb.shape[1]}:{rgb.shape[0]},"
        return rgb


def _source(frame: av.VideoFrame) -> str:
    return (
        f"buffer=video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        f":colorspace={frame.colorspace}:range={frame.color_range}:time_base=1/1"
    )


def orientation(frame: av.VideoFrame) -> str:
    """The filters that show a frame upright by its display matrix, each followed by a comma.

    The matrix, row by row, moves column x and row y to a x + c y, b x + d y. Its angle, in whole
    degrees, and what is done about it are the ffmpeg program's, which leaves one degree alone.
    """
    # PyAV's types do not know this key.
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return ""
    a, b, _, c, d = (int(entry) for entry in np.frombuffer(data, np.int32)[:5])
    width, height = math.hypot(a, c), math.hypot(b, d)
    if not width or not height:
        return ""  # it has no angle
    clockwise = round(math.degrees(math.atan2(b / height, a / width))) % 360
    if clockwise % 90 and clockwise != 1:
        return f"rotate={clockwise}*PI/180,"
    if clockwise == 90:
        return "transpose=cclock_flip," if c > 0 else "transpose=clock,"
    if clockwise == 270:
        return "transpose=clock_flip," if c < 0 else "transpose=cclock,"
    return "hflip," * (a < 0) + "vflip," * (d < 0)


def _graph(filters: str) -> Graph:
    graph = Graph()
    # The loader's workers are the parallelism.
    graph.threads = 1
    steps = [graph.add(*step.split("=", 1)) for step in filters.split(",")]
    graph.link_nodes(*steps).configure()
    return graph
