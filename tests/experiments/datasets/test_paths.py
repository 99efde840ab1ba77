from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from experiments.datasets.own.yaml_file import read_own
from experiments.datasets.paths import DataPaths, config_file
from experiments.errors import MissingData, UserError
from protocols.datasets import HMDB51, K400, MOVING_SHAPES


@pytest.fixture(autouse=True)
def _no_users_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TCCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TCCLIP_DATA_ROOT", raising=False)
    monkeypatch.delenv("TCCLIP_ANNOTATIONS", raising=False)


def _configure(text: str) -> None:
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_text(text)


def test_options_before_environment_before_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(MissingData, match="hmdb51: no videos; give --data-root"):
        DataPaths.find().video_folder(HMDB51)
    with pytest.raises(MissingData, match="hmdb51: no annotations folder"):
        DataPaths.find().annotation_folder(HMDB51)
    _configure("data_root: ../videos\nannotations: /lists\nfolders: {k400: /big/kinetics}\n")
    found = DataPaths.find()
    assert found.video_folder(HMDB51) == tmp_path / "config" / "videos" / "hmdb51"
    assert found.video_folder(K400) == Path("/big/kinetics")
    assert found.annotation_folder(K400) == Path("/lists")
    monkeypatch.setenv("TCCLIP_DATA_ROOT", "/env")
    assert DataPaths.find().video_folder(HMDB51) == Path("/env/hmdb51")
    options = DataPaths.find(data_root=Path("/option"), annotations=Path("/other"))
    assert options.video_folder(HMDB51) == Path("/option/hmdb51")
    assert options.annotation_folder(HMDB51) == Path("/other")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "expected `name: value`"), ("a: [", "is not YAML"), ("roots: /x", "roots")],
)
def test_a_config_file_that_is_wrong(text: str, message: str) -> None:
    _configure(text)
    with pytest.raises(UserError, match=message) as error:
        DataPaths.find()
    assert str(config_file()) in str(error.value)


def test_the_embedded_data_set_is_made_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tcclip.data import moving_shapes

    monkeypatch.setattr(moving_shapes, "ensure_built", lambda folder: folder)
    found = DataPaths.find()
    assert found.annotation_folder(MOVING_SHAPES) == tmp_path / "cache" / "moving_shapes"
    assert found.video_folder(MOVING_SHAPES) == tmp_path / "cache" / "moving_shapes" / "videos"
    monkeypatch.setattr(moving_shapes, "building", nullcontext)
    with found.built_meanwhile(["hmdb51", "moving_shapes"]) as building:
        assert building == tmp_path / "cache" / "moving_shapes"
    with found.built_meanwhile(["hmdb51"]) as building:
        assert building is None
    with pytest.raises(MissingData, match="'gestures' is not known: give its --dataset-file"):
        found.dataset("gestures")


LABELS = "{all: labels.csv, novel: novel.csv}"
OWN = """
name: gestures
videos: clips
labels: {all: labels.csv, novel: novel.csv}
flip: false
splits:
  train_2shot: train.txt
  novel_val: {annotations: novel.txt, labels: novel}
"""


def _own(folder: Path, text: str = OWN) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text("id,name\n0,wave\n1,nod\n")
    (folder / "novel.csv").write_text("id,name\n0,bow\n")
    (folder / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    (folder / "novel.txt").write_text("c.mp4 0\n")
    (folder / "gestures.yaml").write_text(text)
    return folder / "gestures.yaml"


def test_a_users_own_data_set(tmp_path: Path) -> None:
    path = _own(tmp_path / "config")
    _configure(f"datasets: [{path}]\n")
    found = DataPaths.find()
    data = found.datasets()["gestures"]
    assert (data.title, data.flip, data.embedded) == ("gestures", False, False)
    assert data.split("train_2shot").videos == 2
    assert data.labels("novel").classes == 1
    assert data.split("novel_val").labels == "novel"
    assert found.annotation_folder(data) == path.parent
    assert found.find_videos("gestures", ["a.mp4"]).folder == path.parent / "clips"
    assert DataPaths.find(own=[path]).own == found.own


def test_lists_of_base_and_novel_classes_take_their_own_names(tmp_path: Path) -> None:
    """Unless the data set has names of all classes too: then a list has to say which it means."""
    splits = "splits: {base_s1: train.txt, base_val: train.txt, novel_val: novel.txt}\n"
    head = "name: gestures\nvideos: clips\n"
    path = _own(tmp_path, f"{head}labels: {{base: labels.csv, novel: novel.csv}}\n{splits}")
    data = read_own(path).dataset
    assert [one.labels for one in data.splits] == ["base", "base", "novel"]
    path = _own(tmp_path, f"{head}labels: {{all: labels.csv, novel: novel.csv}}\n{splits}")
    with pytest.raises(UserError, match=r"novel_val: .* say which: .*labels: novel"):
        read_own(path)
    path = _own(tmp_path, f"{head}labels: {{base: labels.csv}}\n{splits}")
    with pytest.raises(UserError, match="need a label set novel or all, and labels has base"):
        read_own(path)


def test_two_own_data_sets_of_one_name(tmp_path: Path) -> None:
    paths = [_own(tmp_path / name) for name in ("one", "two")]
    with pytest.raises(UserError, match="2 data sets of your own are called 'gestures'"):
        DataPaths.find(own=paths)
    assert len(DataPaths.find(own=[paths[0], paths[0]]).own) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: gestures", "name: k400", "the name 'k400' is taken"),
        ("flip: false", "flop: false", "flop"),
        ("train.txt", "gone.txt", "gone.txt is not there"),
        ("labels: novel}", "labels: base}", "need a label set base, and labels has all, novel"),
        ("novel.txt", "train.txt", "label 1 is out of range"),
        ("name: gestures", "name: ../gestures", "name"),
        ("name: gestures", "name: ge(s)t", "name"),
        ("train_2shot:", "train/2:", "splits"),
        (LABELS, ".", "gestures.yaml: .* cannot be read: Is a directory"),
        (LABELS, "{}", "gestures.yaml: .*need a label set train or all, and labels has none"),
        (OWN[OWN.index("splits:") :], "splits: {}\n", "gestures.yaml:6: splits: .*at least 1 item"),
    ],
)
def test_an_own_data_set_that_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _own(tmp_path / "own", OWN.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        read_own(path)
    assert str(path) in str(error.value)
