from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from experiments.datasets.check import decoding
from experiments.datasets.check.check import check
from experiments.datasets.check.class_names import check_llm_names
from experiments.datasets.check.decoding import DecodedFile, decode_files, read_decoded
from experiments.datasets.commands import app
from experiments.datasets.own.yaml_file import read_own
from experiments.datasets.paths import DataPaths
from protocols.datasets import DATASETS, HMDB51, MOVING_SHAPES, Dataset
from tcclip.data.annotations import read_list


@pytest.fixture
def own(shapes: Path, tmp_path: Path) -> tuple[Dataset, DataPaths]:
    """Three listed videos: one is fine (and in both lists), one unreadable, one missing."""
    videos = tmp_path / "videos"
    videos.mkdir()
    source = shapes / "videos" / read_list(shapes / "splits" / "val.txt")[0].path
    shutil.copy(source, videos / "fine.mp4")
    (videos / "broken.mp4").write_bytes(b"no video at all")
    (tmp_path / "labels.csv").write_text("id,name\n0,wave\n1,nod\n")
    (tmp_path / "train.txt").write_text("fine.mp4 0\nbroken.mp4 1\nfine.mp4 0\n")
    (tmp_path / "val.txt").write_text("fine.mp4 0\ngone.mp4 1\n")
    (tmp_path / "own.yaml").write_text(
        "name: mine\nvideos: videos\nlabels: labels.csv\nsplits: {train: train.txt, val: val.txt}\n"
    )
    one = read_own(tmp_path / "own.yaml")
    return one.dataset, DataPaths(cache=tmp_path / "cache", own=(one,))


def test_everything_that_can_be_wrong(
    own: tuple[Dataset, DataPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.datasets.check.check.MIN_FRAMES", 100)
    found = check(*own, decode=None)
    assert (found.listed, found.found, found.missing) == (3, 2, 1)
    assert (found.decoded, found.undecodable, found.too_short, found.leaked) == (2, 1, 1, 1)
    train, val = found.splits
    assert (train.listed, train.missing, train.repeated) == (3, 0, 1)
    assert (val.listed, val.missing, val.repeated) == (2, 1, 0)
    assert found.examples["missing"] == ("gone.mp4",)
    assert found.examples["leaked"] == found.examples["too_short"] == ("fine.mp4",)
    assert "broken.mp4 (pyav: cannot be opened" in found.examples["undecodable"][0]
    assert not found.complete


def test_without_decoding_only_existence_counts(own: tuple[Dataset, DataPaths]) -> None:
    found = check(*own, splits=["train"])
    assert (found.decoded, found.undecodable, found.missing) == (0, 0, 0)
    assert found.complete


def test_unchanged_files_are_not_decoded_again(
    own: tuple[Dataset, DataPaths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "cache" / "checks" / "mine.jsonl"
    first = check(*own, decode=None)
    with state.open("a") as file:
        file.write('{"file": "cut sho')
    monkeypatch.setattr(decoding, "_decode", None)
    assert check(*own, decode=None) == first
    monkeypatch.undo()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"another content")
    steps: list[tuple[str, int, int]] = []
    check(*own, decode=None, progress=lambda *step: steps.append(step))
    assert [step for step in steps if step[0] == "decode"] == [("decode", 2, 2)]


def test_a_frame_replaced_in_place_is_decoded_again(tmp_path: Path) -> None:
    frames, state = tmp_path / "frames", tmp_path / "s.jsonl"
    frames.mkdir()
    Image.new("RGB", (32, 24)).save(frames / "1.png")
    (frames / "2.png").write_bytes(b"no image")
    (frames / "notes").symlink_to("gone")

    def decoded() -> DecodedFile:
        return decode_files({"a": frames}, 1, state, lambda done: None, {})["a"]

    failed = decoded()
    assert failed.cause is not None and failed.is_current() and decoded() == failed
    before = frames.stat().st_mtime_ns
    shutil.copyfile(frames / "1.png", frames / "2.png")
    assert frames.stat().st_mtime_ns == before and not failed.is_current()
    assert (decoded().cause, decoded().frames) == (None, 2)
    assert read_decoded(state)[str(frames)].is_current()


def test_changed_lists_are_named(own: tuple[Dataset, DataPaths], tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("fine.mp4 7\n")
    (tmp_path / "train.txt").write_text("fine.mp4 0\n")
    train, val = check(*own).splits
    assert train.problem == "train.txt lists 1 videos where 3 are expected"
    assert val.problem is not None
    assert "label 7 is out of range" in val.problem
    (tmp_path / "labels.csv").unlink()
    assert all("labels.csv is not there" in str(one.problem) for one in check(*own).splits)


def test_the_embedded_set_is_complete(shapes: Path) -> None:
    data_paths = DataPaths(cache=shapes.parent)
    state = shapes.parent / "checks" / "moving_shapes.jsonl"
    state.unlink(missing_ok=True)
    found = check(MOVING_SHAPES, data_paths, decode=12, workers=2)
    assert (found.listed, found.found, found.decoded, found.damaged) == (672, 672, 12, 0)
    assert found.complete
    assert set(found.readers) <= {"pyav", "decord"}
    state.unlink()
    again = check(MOVING_SHAPES, data_paths, decode=12, workers=1)
    assert again == found, "the same sample whatever the workers"


def test_missing_folders_are_results(tmp_path: Path) -> None:
    found = check(HMDB51, DataPaths(cache=tmp_path))
    assert not found.complete
    assert all("no annotations folder" in str(one.problem) for one in found.splits)


def test_published_lists_without_videos(published_annotations: Path, tmp_path: Path) -> None:
    found = check(
        HMDB51, DataPaths(cache=tmp_path, annotations=published_annotations, videos=tmp_path)
    )
    assert found.missing == found.listed > 5000
    assert found.leaked == 0
    assert [one.problem for one in found.splits if one.problem] == []
    assert {one.split: one.missing for one in found.splits}["val1"] == 1530


def with_llm(own: tuple[Dataset, DataPaths]) -> Dataset:
    (labels,) = own[0].label_sets
    named = labels.model_copy(update={"llm": "llm.json"})
    return own[0].model_copy(update={"label_sets": (named,)})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "llm.json is not there; `tcclip data fetch` brings it"),
        ('{"0": "Wave: a hand"}', "llm.json: 1 classes where 2 are expected"),
        ('{"0": "Wave: a hand", "2": "Nod: a head"}', "ids must be 0 to n-1; 2 names, missing [1]"),
        ('{"0": "Wave: a hand"', "llm.json is not JSON"),
    ],
)
def test_llm_names_that_cannot_be_used(
    own: tuple[Dataset, DataPaths], tmp_path: Path, content: str | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "llm.json").write_text(content)
    found = check(with_llm(own), own[1], splits=["train"])
    (labels,) = found.labels
    assert problem in str(labels.problem)
    assert not found.complete
    assert check(with_llm(own), own[1], splits=["train"], llm=False).complete


def test_llm_names_of_another_class_are_named_and_allowed(
    own: tuple[Dataset, DataPaths], tmp_path: Path
) -> None:
    (tmp_path / "llm.json").write_text('{"0": "Nod: a head", "1": "N od: a head again"}')
    found = check(with_llm(own), own[1], splits=["train"])
    assert found.labels[0].elsewhere == ("id 0 is 'wave', but 'Nod' here, which is id 1",)
    assert found.complete


def test_published_llm_names(published_annotations: Path, tmp_path: Path) -> None:
    """In HMDB-51 alone, two pairs of classes are swapped."""
    found = {}
    for data in DATASETS.values():
        data_paths = DataPaths(cache=tmp_path, annotations=published_annotations)
        checks = [check_llm_names(data, labels, data_paths) for labels in data.label_sets]
        for one in filter(None, checks):
            assert one.problem is None
            found[data.name, one.labels] = one.elsewhere
    assert len(found) == 12
    assert {name for (name, _), texts in found.items() if texts} == {"hmdb51"}
    assert found["hmdb51", "all"] == (
        "id 20 is 'kick ball', but 'Kick' here, which is id 21",
        "id 21 is 'kick', but 'Kick ball' here, which is id 20",
        "id 44 is 'sword exercise', but 'Sword' here, which is id 45",
        "id 45 is 'sword', but 'Sword exercise' here, which is id 44",
    )


def test_the_command_names_llm_files_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCCLIP_CACHE", str(tmp_path / "cache"))
    options = ["--datasets", "ucf101", "--protocol", "few_shot", "--annotations", str(tmp_path)]
    result = CliRunner().invoke(app, ["check", *options])
    assert result.exit_code == 1
    assert "ucf101 all, needed for variant llm: " in result.stdout
