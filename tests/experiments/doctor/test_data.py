"""Decoders, CLIP weights, annotation lists, videos."""

from pathlib import Path

import open_clip
import pytest
from huggingface_hub import constants

from experiments.datasets.paths import DataPaths
from experiments.doctor import data
from tcclip.config import ModelConfig


def test_both_decoders_decode_the_small_video() -> None:
    pyav = data.pyav()
    assert pyav.ok and "decoded 8 frames" in pyav.detail
    assert data.decord().ok is not False


def test_wrong_frames_are_found() -> None:
    finding = data.decoder("decord", "print([1, 2, 3])", "install it")
    assert finding.ok is False and "wrong frames" in finding.detail


@pytest.mark.parametrize(
    ("path", "offline", "ok"),
    [("/cache/file", True, True), (None, False, None), (None, True, False)],
)
def test_clip_weights(
    path: str | None, offline: bool, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(data, "try_to_load_from_cache", lambda repository, file: path)
    finding = data.clip_weights()
    assert finding.ok is ok
    assert ok or f"hf download {data.CLIP_REPOSITORY}" in finding.remedy


def test_the_weights_are_looked_for_where_open_clip_has_them() -> None:
    config = open_clip.get_pretrained_cfg(ModelConfig().backbone, "openai")
    assert config["hf_hub"].rstrip("/") == data.CLIP_REPOSITORY
    assert data.CLIP_FILE == open_clip.constants.HF_SAFE_WEIGHTS_NAME


def test_without_data_folders(tmp_path: Path) -> None:
    paths = DataPaths(cache=tmp_path)
    assert data.annotation_lists(paths).ok is None
    assert [one.ok for one in data.video_folders(paths)] == [None]


def test_annotations_that_are_not_as_published(tmp_path: Path) -> None:
    finding = data.annotation_lists(DataPaths(cache=tmp_path, annotations=tmp_path))
    assert finding.ok is False
    assert "(missing)" in finding.detail and finding.detail.endswith("...")
    assert finding.remedy == f"tcclip data fetch --to {tmp_path}"


def test_videos(tmp_path: Path) -> None:
    (tmp_path / "hmdb51").mkdir()
    (tmp_path / "hmdb51" / "one.avi").write_bytes(b"")
    (tmp_path / "ucf101").mkdir()
    elsewhere = {"ssv2": tmp_path / "elsewhere" / "gone"}
    paths = DataPaths(cache=tmp_path, videos=tmp_path, folders=elsewhere)
    found = {one.name: one for one in data.video_folders(paths)}
    assert {name.split()[-1]: one.ok for name, one in found.items()} == {
        "k400": None, "k600": None, "hmdb51": True, "ucf101": False, "ssv2": False
    }  # fmt: skip
    assert "is empty" in found["videos of ucf101"].detail
    assert "tcclip data check --datasets hmdb51" in found["videos of hmdb51"].detail


@pytest.mark.parametrize("root", [".", "gone"])
def test_a_root_without_any_data_set(tmp_path: Path, root: str) -> None:
    (finding,) = data.video_folders(DataPaths(cache=tmp_path, videos=tmp_path / root))
    assert finding.ok is False
    assert "k400, k600, hmdb51, ucf101, ssv2" in finding.remedy
