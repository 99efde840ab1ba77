"""Decoders, CLIP's weights, annotation lists, videos."""

from pathlib import Path

import pytest

from experiments.datasets.paths import DataPaths
from experiments.doctor import data


def test_both_decoders_read_the_small_video() -> None:
    (decord,), (pyav,) = data.decord(), data.pyav()
    assert pyav.ok and "read 8 frames" in pyav.detail
    assert decord.ok is not False


def test_wrong_frames_are_found() -> None:
    finding = data.decoder("decord", "print([1, 2, 3])", "install it")
    assert finding.ok is False and "wrong frames" in finding.detail


@pytest.mark.parametrize(
    ("files", "offline", "ok"),
    [(["/cache/open_clip_model.safetensors"], "1", True), ([], "0", None), ([], "1", False)],
)
def test_weights(
    files: list[str], offline: str, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(data, "probe", lambda code, name: ["timm/weights", *files])
    (finding,) = data.weights()
    assert finding.ok is ok
    assert ok or "hf download timm/weights" in finding.remedy


def test_data_nobody_gave(tmp_path: Path) -> None:
    data_paths = DataPaths(cache=tmp_path)
    assert data.annotation_lists(data_paths).ok is None
    assert [one.ok for one in data.video_folders(data_paths)] == [None]


def test_annotations_that_are_not_as_published(tmp_path: Path) -> None:
    finding = data.annotation_lists(DataPaths(cache=tmp_path, annotations=tmp_path))
    assert finding.ok is False
    assert "(missing)" in finding.detail and finding.detail.endswith("...")
    assert finding.remedy == f"tcclip data fetch --to {tmp_path}"
    finding = data.annotation_lists(DataPaths(cache=tmp_path, annotations=tmp_path / "gone"))
    assert finding.ok is False and "not a folder" in finding.detail


def test_videos(tmp_path: Path) -> None:
    (tmp_path / "hmdb51").mkdir()
    (tmp_path / "hmdb51" / "one.avi").write_bytes(b"")
    (tmp_path / "ucf101").mkdir()
    data_paths = DataPaths(cache=tmp_path, videos=tmp_path, folders={"ssv2": tmp_path / "gone"})
    found = {one.name: one for one in data.video_folders(data_paths)}
    assert {name.split()[-1]: one.ok for name, one in found.items()} == {
        "k400": None, "k600": None, "hmdb51": True, "ucf101": False, "ssv2": False
    }  # fmt: skip
    assert "is empty" in found["videos of ucf101"].detail
    assert "tcclip data check --datasets hmdb51" in found["videos of hmdb51"].detail


def test_a_root_without_any_data_set(tmp_path: Path) -> None:
    (finding,) = data.video_folders(DataPaths(cache=tmp_path, videos=tmp_path))
    assert finding.ok is False
    assert "k400, k600, hmdb51, ucf101, ssv2" in finding.remedy
