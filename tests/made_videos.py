"""Videos of every codec, container and oddity that can be written here, to check readers with.

`make_videos(FOLDER)` writes a file for each entry of `recipes()`: small pictures, no footage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

FRAMES, HEIGHT, WIDTH = 40, 64, 96
#: Display matrices (the upper left 2 x 2, row by row) of the eight orientations.
ORIENTATIONS = {
    "0": (1, 0, 0, 1), "90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1), "flip": (1, 0, 0, -1), "transpose": (0, 1, 1, 0),
    "transverse": (0, -1, -1, 0),
}  # fmt: skip
Pictures = NDArray[np.uint8]


def pictures(
    frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH, tint: int = 0
) -> Pictures:
    """(frames, height, width, 3): other colours in every corner, a moving bar, one level a frame."""
    y, x = np.mgrid[0:height, 0:width]
    made = np.empty((frames, height, width, 3), np.uint8)
    for number, picture in enumerate(made):
        picture[..., 0] = x * 200 // width + 20
        picture[..., 1] = (y * 160 // height + 20 + tint) % 256
        picture[..., 2] = (5 * number + tint) % 256
        picture[:, 2 * number % width : 2 * number % width + 6] = (250, 30, 90)
        picture[height // 3] = (30, 220, 40)
    return made


def write_video(
    path: Path,
    codec: str = "libx264",
    shown: Pictures | None = None,
    *,
    pix_fmt: str = "yuv420p",
    matrix: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
    sound: bool = False,
    container: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    **options: str,
) -> Path:
    """Encode `shown` (default: `pictures()`) to `path`, 25 frames a second.

    `matrix`: see ORIENTATIONS; `times`: each frame's, in 1/100 s; `container`: the muxer's options;
    `tags`: attributes of the encoder, such as its colour range; `options`: the encoder's.
    """
    shown = pictures() if shown is None else shown
    with av.open(str(path), "w", options=container or {}) as file:
        stream = _add_stream(file, codec, shown, pix_fmt, options, tags or {})
        if matrix is not None:
            a, b, c, d = (65536 * entry for entry in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        if sound:
            _add_sound(file)
        for number, frame in enumerate(_frames(shown, tags or {})):
            frame.time_base = Fraction(1, 100)
            frame.pts = times[number] if times else 4 * number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def _add_stream(
    file: Any, codec: str, shown: Pictures, pix_fmt: str, options: dict[str, str],
    tags: dict[str, int],
) -> Any:  # fmt: skip
    stream = file.add_stream(codec, rate=25, options=options)
    stream.height, stream.width = shown.shape[1:3]
    stream.pix_fmt = pix_fmt
    stream.bit_rate = 1_000_000
    stream.codec_context.time_base = Fraction(1, 100) if codec.startswith("lib") else Fraction(1, 25)
    for name, value in tags.items():
        setattr(stream.codec_context, name, value)
    return stream


def _frames(shown: Pictures, tags: dict[str, int]) -> Iterator[av.VideoFrame]:
    for picture in shown:
        yield av.VideoFrame.from_ndarray(picture, format="rgb24")


def _add_sound(file: Any) -> None:
    stream = file.add_stream("aac", rate=44100)
    for number in range(20):
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate, sound.pts = 44100, 1024 * number
        file.mux(stream.encode(sound))
    file.mux(stream.encode(None))
