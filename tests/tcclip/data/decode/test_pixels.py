"""Frames are shown upright and in ffmpeg's colours, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tcclip.data.decode.pixels import RgbConverter
from tcclip.data.decode.reader import read_video
from tests.made_videos import ORIENTATIONS, pictures, write_resized, write_video

Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
#: What each orientation does to (T, H, W, 3) frames.
SHOWN: dict[str, Turn] = {
    "upright": lambda frames: frames,
    "right": lambda frames: np.rot90(frames, -1, (1, 2)),
    "around": lambda frames: np.rot90(frames, 2, (1, 2)),
    "left": lambda frames: np.rot90(frames, 1, (1, 2)),
    "mirror": lambda frames: frames[:, :, ::-1],
    "flip": lambda frames: frames[:, ::-1],
    "transpose": lambda frames: frames.swapaxes(1, 2),
    "transverse": lambda frames: frames[:, ::-1, ::-1].swapaxes(1, 2),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_all_eight_orientations(tmp_path: Path, name: str) -> None:
    plain = write_video(tmp_path / "plain.mp4", shown=pictures(8), g="1")
    turned = write_video(
        tmp_path / "turned.mp4", shown=pictures(8), g="1", matrix=ORIENTATIONS[name]
    )
    expected = SHOWN[name](read_video(plain, range).frames)
    for mode in ("auto", "pyav"):
        assert np.array_equal(read_video(turned, range, mode).frames, expected)


def test_a_scaled_matrix_turns_only(tmp_path: Path) -> None:
    small = write_video(tmp_path / "a.mp4", shown=pictures(4), matrix=(0, 3, -3, 0))
    assert read_video(small, range).frames.shape == (4, 96, 64, 3)


@pytest.mark.parametrize(
    "options", [{"flags": "+ildct+ilme"}, {"x264-params": "fake-interlaced=1"}]
)
def test_interlaced_frames_are_whole_frames(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_video(tmp_path / "a.mp4", g="4", **options)
    ours = read_video(path, range).frames
    assert np.array_equal(read_video(path, range, "published").frames, ours)
    for wanted in ([3], [3, 39], list(range(0, 40, 5))):
        clip = read_video(path, lambda total, wanted=wanted: wanted)
        assert np.array_equal(clip.frames, ours[wanted])


def test_frames_that_change_size_take_the_first_ones(tmp_path: Path) -> None:
    write_resized(tmp_path / "a.ts")
    clip = read_video(tmp_path / "a.ts", range)
    assert clip.total_frames > 50
    assert clip.frames.shape[1:] == (64, 96, 3)
    assert (read_video(tmp_path / "a.ts", lambda _: [50]).frames == clip.frames[50]).all()


@pytest.mark.parametrize("matrix", [*range(11), 12, 14])
def test_every_colour_matrix_is_converted(matrix: int) -> None:
    frame = av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24").reformat(format="yuv420p")
    frame.colorspace = matrix
    assert RgbConverter()(frame).shape == (64, 96, 3)


def test_full_and_limited_range(tmp_path: Path) -> None:
    shown = np.full((3, 64, 96, 3), 255, np.uint8)
    for pix_fmt in ("yuv420p", "yuvj420p"):
        path = write_video(tmp_path / f"{pix_fmt}.mp4", shown=shown, pix_fmt=pix_fmt)
        assert read_video(path, range).frames.min() > 250
