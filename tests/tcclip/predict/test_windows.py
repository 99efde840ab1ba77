"""Windows of long videos: where they are, and that what is read in parts is the same."""

from pathlib import Path

import pytest
import torch

from tcclip.config import Views
from tcclip.predict import reading
from tcclip.predict.reading import ClipReader, Source
from tcclip.predict.windows import Length, Timeline
from tests.made_videos import pictures, write_video
from tests.tcclip.predict.made import AUGMENT


@pytest.mark.parametrize(
    ("window", "stride", "total", "rate", "expected"),
    [
        ("1s", "1s", 50, 25.0, [(0, 25), (25, 50)]),
        ("1s", None, 60, 25.0, [(0, 25), (25, 50), (35, 60)]),
        ("30f", "10f", 50, None, [(0, 30), (10, 40), (20, 50)]),
        ("1m", None, 50, 25.0, [(0, 50)]),
        ("2f", "3f", 1, None, [(0, 1)]),
        (0.5, "200ms", 25, 30.0, [(0, 15), (6, 21), (10, 25)]),
    ],
)
def test_windows_cover_the_video(
    window: str, stride: str | None, total: int, rate: float | None, expected: object
) -> None:
    assert Timeline.of(window, stride).spans(total, rate) == expected


@pytest.mark.parametrize("text", ["", "4", "s", "-1s", "0f", "1h", "1_0s", "nan s"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="give a length"):
        Length.of(text, "window")


def test_parts_of_a_long_video_are_the_same_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "long.mp4", shown=pictures(60), g="8")
    timeline = Timeline.of("16f", "7f")
    reader = ClipReader(AUGMENT, 4, Views(clips=2, crops=3), seed=1)
    (whole,) = reader.read(Source.of(path), timeline)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 2 * 2 * 4 * 64 * 96 * 3)
    parts = list(reader.read(Source.of(path), timeline))
    reader.close()
    assert whole.video.shape == (8, 6, 4, 3, 32, 32) and len(parts) == 4
    assert torch.equal(torch.cat([part.video for part in parts]), whole.video)
    assert [span for part in parts for span in part.spans] == whole.spans
