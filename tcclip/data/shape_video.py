"""Drawing one clip of the moving-shapes data set, and writing it as H.264.

Every motion is periodic with a uniformly random phase, so a clip is as likely as its reverse. The
unordered frames tell the motions apart: by the shape's position, size, or presence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 235),
    "yellow": (235, 215, 50),
    "purple": (165, 55, 200),
    "white": (240, 240, 240),
}
FPS = 12

Plane = NDArray[np.floating[Any]]


def _cross(x: Plane, y: Plane) -> Plane:
    across = np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.32)
    return np.asarray(np.minimum(across, np.maximum(np.abs(y) - 1.0, np.abs(x) - 0.32)))


#: Distance to the outline in units of the shape's radius, negative inside. The triangle points up,
#: its base at y = 0.8; all are symmetric, so mirroring does not change them.
OUTLINES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": lambda x, y: np.hypot(x, y) - 1.0,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.85,
    "triangle": lambda x, y: np.maximum(y - 0.8, (2.0 * np.abs(x) - y - 1.0) / np.sqrt(5.0)),
    "cross": _cross,
}
SHAPES = tuple(OUTLINES)
MOTIONS = (
    "bouncing up and down",
    "sliding side to side",
    "growing and shrinking",
    "blinking on and off",
)


def render_clip(
    colour: str, shape: str, motion: str, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(F, H, W, 3) RGB frames of one clip; F 16 to 40, sides 48 to 80 pixels, both drawn."""
    height, width = (int(side) for side in 2 * rng.integers(24, 41, size=2))
    frames = int(rng.integers(16, 41))
    short = min(height, width)
    period = rng.uniform(7.0, 14.0)
    wave = np.sin(2 * np.pi * (np.arange(frames) / period + rng.random()))
    radius = np.full(frames, short * rng.uniform(0.2, 0.28))
    x = np.full(frames, width * rng.uniform(0.42, 0.58))
    y = np.full(frames, height * rng.uniform(0.42, 0.58))
    shown = np.ones(frames, np.bool_)
    swing = rng.uniform(0.2, 0.27)
    if motion == "bouncing up and down":
        y = y + height * swing * wave
    elif motion == "sliding side to side":
        x = x + width * swing * wave
    elif motion == "growing and shrinking":
        radius = radius * (1.0 + 2.0 * swing * wave)
    else:
        shown = wave > 0
    paint = np.array(PALETTE[colour]) * rng.uniform(0.8, 1.05)
    background = _background(height, width, rng)
    noise = rng.uniform(2.0, 6.0)
    clip = np.empty((frames, height, width, 3), np.uint8)
    for number in range(frames):
        picture = background
        if shown[number]:
            cover = _cover(shape, height, width, x[number], y[number], radius[number])
            picture = background + cover[..., None] * (paint - background)
        picture = picture + noise * rng.standard_normal((height, width, 1))
        clip[number] = np.clip(picture, 0, 255)
    return clip


def _background(height: int, width: int, rng: np.random.Generator) -> Plane:
    """(H, W, 3) dim and uneven: a base colour, a gradient, and coarse blotches."""
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    slope = rng.uniform(-12, 12) * rows + rng.uniform(-12, 12) * columns
    cell = 8
    coarse = rng.normal(0, 7, size=(-(-height // cell), -(-width // cell)))
    blotches = np.kron(coarse, np.ones((cell, cell)))[:height, :width]
    base = rng.uniform(25, 75) + rng.uniform(-12, 12, size=3)
    return np.asarray(base + (slope + blotches)[..., None])


def _cover(shape: str, height: int, width: int, x: float, y: float, radius: float) -> Plane:
    """(H, W) how much of each pixel the shape covers, 0 to 1, with a soft edge of a pixel."""
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
    distance = OUTLINES[shape]((columns - x) / radius, (rows - y) / radius)
    return np.asarray(np.clip(0.5 - radius * distance, 0.0, 1.0))


def write_video(path: Path, frames: NDArray[np.uint8]) -> None:
    """Encode (F, H, W, 3) RGB as H.264 in MP4, 4:2:0; equal frames give equal bytes."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # One thread: the bytes must not depend on the machine's number of cores. No assembly:
        # with it, one file in twenty differed between runs, from equal frames.
        stream.options = {
            "crf": "27", "preset": "superfast", "threads": "1", "g": "12", "x264-params": "asm=0"
        }  # fmt: skip
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
