"""Small pictures of videos, made once."""

import io
from pathlib import Path

import pytest
from PIL import Image

from experiments.datasets.thumbnails import FRAMES, HEIGHT, thumbnails
from tcclip.data.decode.decoder import Decoder
from tests.made_videos import pictures, write_video


def test_thumbnails_are_made_once_of_what_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "videos" / "hmdb51"
    folder.mkdir(parents=True)
    write_video(folder / "a.mp4", shown=pictures(12, tint=70), g="4")
    (folder / "text.mp4").write_text("no video")
    monkeypatch.setenv("TCCLIP_DATA_ROOT", str(tmp_path / "videos"))
    monkeypatch.setenv("TCCLIP_CACHE", str(tmp_path / "cache"))
    names = ["a.mp4", "text.mp4", "missing.mp4"]
    made = thumbnails("hmdb51", names)
    assert list(made) == ["a.mp4"] and made["a.mp4"][0] == folder / "a.mp4"
    picture = Image.open(io.BytesIO(made["a.mp4"][1]))
    assert picture.height == HEIGHT and picture.width % FRAMES == 0

    def read(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Decoder, "read", read)
    assert thumbnails("hmdb51", ["a.mp4"]) == made


def test_without_a_folder_or_a_known_data_set_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TCCLIP_DATA_ROOT", raising=False)
    assert thumbnails("ucf101", ["a.avi"]) == {}
    assert thumbnails("unknown", ["a.avi"]) == {}
