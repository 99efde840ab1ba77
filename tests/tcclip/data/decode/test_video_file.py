"""The one track of a file, the same for every reader and draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from av.stream import Disposition

from tcclip.data.decode.reader import read_video
from tests.made_videos import pictures, write_tracks

DEFAULT, NO, COVER = Disposition.default, Disposition(0), Disposition.attached_pic
SMALL, LARGE = pictures(40), pictures(40, 128, 160)


def _heights(path: Path) -> set[int]:
    """Of the frames that several readers and draws give."""
    draws = ([0], [39], list(range(0, 40, 5)), list(range(40)))
    return {
        read_video(path, lambda total, draw=draw: draw, mode).frames.shape[1]
        for draw in draws
        for mode in ("auto", "pyav")
    }


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("first", "second", "height"),
    [
        ((SMALL, DEFAULT), (LARGE, NO), 64), ((SMALL, NO), (LARGE, DEFAULT), 128),
        ((LARGE, NO), (SMALL, DEFAULT), 64), ((SMALL, DEFAULT), (LARGE, DEFAULT), 128),
        ((LARGE, DEFAULT), (SMALL, DEFAULT), 128),
    ],
)  # fmt: skip
def test_the_default_track_then_the_larger(
    tmp_path: Path,
    ending: str,
    first: tuple[np.ndarray, Disposition],
    second: tuple[np.ndarray, Disposition],
    height: int,
) -> None:
    path = tmp_path / f"a.{ending}"
    write_tracks(path, first, second)
    assert _heights(path) == {height}


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("cover_first", [False, True])
def test_a_cover_is_no_video(tmp_path: Path, ending: str, cover_first: bool) -> None:
    path = tmp_path / f"a.{ending}"
    tracks = [(SMALL, DEFAULT), (pictures(1, 400, 400), COVER)]
    write_tracks(path, *(tracks[::-1] if cover_first else tracks), sound=True)
    assert _heights(path) == {64}
