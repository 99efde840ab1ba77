"""From decoded frames to RGB arrays, as the ffmpeg program shows them."""

from __future__ import annotations

import math

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

from tcclip.data.decode.video_file import DecodingError

Frames = NDArray[np.uint8]


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

    The matrix, row by row, moves column x and row y to a x + c y, b x + d y.
    """
    data = frame.side_data["DISPLAYMATRIX"] if "DISPLAYMATRIX" in frame.side_data else None
    if data is None:
        return ""
    a, b, _, c, d = (int(entry) for entry in np.frombuffer(data, np.int32)[:5])
    clockwise = round(math.degrees(math.atan2(b, a))) % 360
    if clockwise % 90:
        return f"rotate={clockwise}*PI/180,"
    if clockwise % 180:
        turn = "clock" if clockwise == 90 else "cclock"
        # A turn keeps the sign of b and c different.
        return f"transpose={turn}{'_flip' * (b > 0 < c or b < 0 > c)},"
    return "hflip," * (a < 0) + "vflip," * (d < 0)


def _graph(filters: str) -> Graph:
    graph = Graph()
    # The loader's workers are the parallelism.
    graph.threads = 1
    steps = [graph.add(*step.split("=", 1)) for step in filters.split(",")]
    graph.link_nodes(*steps).configure()
    return graph
