"""What is odd in lists: by what they mean, not by how they are written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.datasets.check.check import check
from experiments.datasets.check.plan import ListFindings, check_lists
from experiments.datasets.check.record import DatasetCheck, check_file, last_check
from experiments.datasets.commands import app
from experiments.datasets.own.yaml_file import read_own
from experiments.datasets.paths import DataPaths
from experiments.errors import UserError
from experiments.grid.plan import Grid, expand
from protocols.datasets import DATASETS

Make = Callable[..., DataPaths]
#: More than the sample that is compared before whole files are.
LONG = 40_000


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a data set `own` of three classes with small files as videos."""

    def made(
        train: str = "a1.mp4 0\nb1.mp4 1\nc1.mp4 2\n",
        val: str = "a2.mp4 0\nb2.mp4 1\nc2.mp4 2\n",
        names: Sequence[str] = ("wave", "nod", "bow"),
        splits: str = "{train_2shot: train.txt, val: val.txt}",
    ) -> DataPaths:
        videos = tmp_path / "videos"
        videos.mkdir()
        for name in ("a1", "a2", "b1", "b2", "c1", "c2"):
            (videos / f"{name}.mp4").write_bytes(name.encode() * LONG)
        rows = "".join(f'{number},"{name}"\n' for number, name in enumerate(names))
        (tmp_path / "labels.csv").write_text("id,name\n" + rows)
        (tmp_path / "train.txt").write_text(train)
        (tmp_path / "val.txt").write_text(val)
        (tmp_path / "own.yaml").write_text(
            f"name: own\nvideos: videos\nlabels: labels.csv\nsplits: {splits}\n"
        )
        one = read_own(tmp_path / "own.yaml")
        return DataPaths(cache=tmp_path / "cache", own=(one,))

    return made


def checked(data_paths: DataPaths) -> DatasetCheck:
    return check(data_paths.own[0].dataset, data_paths)


def planned(data_paths: DataPaths) -> ListFindings:
    grid = Grid("few_shot", datasets=("own",), shots=(2,))
    return check_lists(expand(grid, data_paths.datasets()), data_paths)


def test_a_check_counts_for_the_lists_and_videos_that_it_saw(make: Make, tmp_path: Path) -> None:
    data_paths = make()
    kept = check_file(data_paths, "own")
    kept.parent.mkdir(parents=True)
    kept.write_text(checked(data_paths).model_dump_json())
    assert last_check(data_paths, "own") is not None
    (tmp_path / "val.txt").write_text("a2.mp4 1\n")
    now = (read_own(tmp_path / "own.yaml"),)
    assert last_check(DataPaths(cache=data_paths.cache, own=now), "own") is None
    moved = (data_paths.own[0].model_copy(update={"videos": tmp_path}),)
    assert last_check(DataPaths(cache=data_paths.cache, own=moved), "own") is None


def test_missing_videos_are_a_problem_of_the_plan(make: Make, tmp_path: Path) -> None:
    data_paths = make()
    (tmp_path / "videos" / "a1.mp4").unlink()
    [problem] = planned(data_paths).problems
    assert "listed videos are not there, allowed are 0.00%: a1.mp4. Add them" in problem
    grid = Grid("few_shot", datasets=("own",), shots=(2,))
    specs = expand(grid, data_paths.datasets())
    assert check_lists(specs, data_paths, max_unreadable=0.5).problems == {}
    shutil.rmtree(tmp_path / "videos")  # on other machines only
    assert planned(data_paths).problems == {}


def test_sound_lists(make: Make) -> None:
    data_paths = make()
    found = checked(data_paths)
    assert (found.complete, found.warnings, found.examples) == (True, (), {})
    assert planned(data_paths) == ({}, [])


ALL_SHARED = "own val: every video is also in the training list own train_2shot: "


def test_one_class_alone_says_nothing(make: Make) -> None:
    data_paths = make(train="a1.mp4 0\nb1.mp4 0\n", val="a2.mp4 0\n", names=("wave",))
    expected = "own val: one class alone, so the accuracy is 100 % in any case"
    assert expected in checked(data_paths).warnings
    assert expected in planned(data_paths).warnings


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        ("a2.mp4 0\nb2.mp4 1\nb2.mp4 2\nc2.mp4 2\n", "1 video with several labels"),
        ("a2.mp4 0\nb2.mp4 1\n./b2.mp4 2\nc2.mp4 2\n", "b2.mp4 = ./b2.mp4 (1 and 2)"),
        ("a2.mp4 0\nb2 1\nb2.mp4 2\nc2.mp4 2\n", "b2 = b2.mp4 (1 and 2)"),
        ("a2.mp4 0\nb2.mp4 1\nc2.mp4 2\na2.mp4 0\n", "1 line whose video is listed before: a2.mp4"),
        ("a2.mp4 0\nb2.mp4 1\nc2.mp4 2\n.//a2.mp4 0\n", ".//a2.mp4 (there: a2.mp4)"),
        ("a2.mp4 1\nb2.mp4 2\n", "no video of 1 of 3 classes: 0 'wave'; labels count from 0: are"),
        ("a2.mp4 0\nb2.mp4 1\n", "no video of 1 of 3 classes: 2 'bow'"),
        ("a1.mp4 0\nb2.mp4 1\nc2.mp4 2\n", "own val shares 1 of its 3 videos with the training"),
        ("./a1.mp4 0\nb2.mp4 1\nc2.mp4 2\n", "./a1.mp4 (there: a1.mp4)"),
        ("a1.avi 0\nb2.mp4 1\nc2.mp4 2\n", "a1.avi (there: a1.mp4)"),
        ("A1.mp4 0\nb2.mp4 1\nc2.mp4 2\n", "A1.mp4 (there: a1.mp4)"),
        ("a1 0\nb2.mp4 1\nc2.mp4 2\n", "a1 (there: a1.mp4)"),
        ("c1.mp4 2\nb1.mp4 1\na1.mp4 0\n", f"{ALL_SHARED}the accuracy says nothing of new videos"),
    ],
)
def test_oddities_are_named_by_check_and_plan(make: Make, val: str, expected: str) -> None:
    data_paths = make(val=val)
    assert any(expected in text for text in checked(data_paths).warnings)
    assert any(expected in text for text in planned(data_paths).warnings)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_links_to_a_training_video_are_leaks(
    make: Make, tmp_path: Path, link: Callable[..., None]
) -> None:
    data_paths = make(val="other.mp4 0\nb2.mp4 1\nc2.mp4 2\n")
    link(tmp_path / "videos" / "a1.mp4", tmp_path / "videos" / "other.mp4")
    found = checked(data_paths)
    assert (found.leaked, found.leaked_copies) == (1, 0)
    assert found.examples["leaked"] == ("other.mp4 (there: a1.mp4)",)


def test_byte_copies_of_training_videos(make: Make, tmp_path: Path) -> None:
    """Files of one size are compared; a2.mp4 is as large as a1.mp4 and another video."""
    data_paths = make(val="other.mp4 0\na2.mp4 0\nb2.mp4 1\nb3.mp4 1\nc2.mp4 2\n")
    videos = tmp_path / "videos"
    shutil.copy(videos / "a1.mp4", videos / "other.mp4")
    # Of the same size, and different only at the end.
    (videos / "b3.mp4").write_bytes((videos / "b1.mp4").read_bytes()[:-1] + b"x")
    found = checked(data_paths)
    assert (found.leaked, found.leaked_copies) == (0, 1)
    text = (
        "own val has byte copies for 1 of its 5 videos in the training list own train_2shot: "
        "other.mp4 (there: a1.mp4)"
    )
    assert found.warnings == (text,)
    assert planned(data_paths) == ({}, [text])


def test_byte_copies_of_folders_of_frames(make: Make, tmp_path: Path) -> None:
    data_paths = make(train="f 0\nb1.mp4 1\nc1.mp4 2\n", val="g 0\nh 0\nb2.mp4 1\nc2.mp4 2\n")
    for folder, letter in (("f", "x"), ("g", "x"), ("h", "y")):
        (tmp_path / "videos" / folder).mkdir()
        for number in range(3):
            frame = tmp_path / "videos" / folder / f"{number}.jpg"
            frame.write_text("x" if number else letter)
    (text,) = checked(data_paths).warnings
    assert "own val has byte copies for 1 of its 4 videos in the training" in text
    assert text.endswith(": g (there: f)")
    assert planned(data_paths) == ({}, [text])


def test_videos_that_select_the_epoch_and_are_tested_on(make: Make, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("a2.mp4 0\nb3.mp4 1\nc3.mp4 2\n")
    data_paths = make(splits="{train_2shot: train.txt, val: val.txt, test: test.txt}")
    for name in ("b3", "c3"):
        (tmp_path / "videos" / f"{name}.mp4").write_text(name)
    text = "own test shares 1 of its 3 videos with the validation list own val: a2.mp4"
    assert checked(data_paths).warnings == (text,)
    assert planned(data_paths) == ({}, [text])


def test_a_copy_with_another_label(make: Make, tmp_path: Path) -> None:
    data_paths = make(val="a2.mp4 0\nb2.mp4 1\nc2.mp4 2\nd.mp4 1\n")
    shutil.copy(tmp_path / "videos" / "a2.mp4", tmp_path / "videos" / "d.mp4")
    assert "a2.mp4 = d.mp4 (0 and 1)" in checked(data_paths).warnings[0]


@pytest.mark.parametrize(
    ("splits", "leaked"),
    [
        ("{training: train.txt, held_out: train.txt}", 3),
        ("{my_train: train.txt, dev: train.txt}", 3),
        ("{base_s1: train.txt, novel_val: train.txt}", 3),
        ("{train1: train.txt, test1: train.txt, test2: val.txt}", 3),
        ("{train2: train.txt, test1: train.txt}", 0),
        ("{train_16shot: train.txt, test1: train.txt}", 3),
        ("{train_05shot: train.txt, base_s1: train.txt, base_test: val.txt}", 0),
        ("{train: train.txt, train_2shot: train.txt, val: val.txt}", 0),
        ("{val: val.txt, test: val.txt, train: train.txt}", 0),
    ],
)
def test_training_and_test_lists_by_their_names(make: Make, splits: str, leaked: int) -> None:
    found = checked(make(splits=splits))
    assert found.leaked == leaked
    others = "training", "held_out", "my_train", "dev", "train_05shot"
    unread = [name for name in others if f"{name}:" in splits]
    said = "no protocol reads a list of this name"
    assert [text for text in found.warnings if said in text] == [f"own {n}: {said}" for n in unread]


@pytest.mark.parametrize(
    "names",
    [
        ("Push Up", "push up", "wave"),
        ("push_up", "push up", "wave"),
        ("PushUp", "Push Up", "wave"),
        ("wave", "caf\u00e9", "cafe\u0301"),
        ("wave", "nod", "wave"),
        ("\uff50ush", "push", "wave"),
        ("\u624b", "nod", "\u624b"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(make: Make, names: list[str]) -> None:
    data_paths = make(names=names)
    found = checked(data_paths)
    assert not found.complete
    assert all("the model cannot tell classes" in str(one.problem) for one in found.splits)
    (problem,) = planned(data_paths).problems
    assert "apart: capitals, spaces and underscores make no difference" in problem
    assert "Give them different names, or join them to one class" in problem


def test_classes_of_several_names(make: Make, tmp_path: Path) -> None:
    """The same names in another order are the same class; one name in common is odd."""
    make()
    yaml = tmp_path / "own.yaml"
    yaml.write_text(yaml.read_text().replace("labels.csv", "labels.json"))

    def found(*names: list[str]) -> ListFindings:
        (tmp_path / "labels.json").write_text(json.dumps(dict(enumerate(names))))
        data_paths = DataPaths(cache=tmp_path / "cache", own=(read_own(yaml),))
        plan, check = planned(data_paths), checked(data_paths)
        assert check.complete is not bool(plan.problems)
        assert list(check.warnings) == plan.warnings
        return plan

    assert found(["wave", "hello"], ["nod", "yes"], ["bow"]) == ({}, [])
    (problem,) = found(["wave", "Greet"], ["greet", "wave"], ["bow"]).problems
    assert "cannot tell classes 0 'wave' / 'Greet' and 1 'greet' / 'wave' apart" in problem
    (warning,) = found(["play ball", "pitch"], ["Pitch"], ["bow"]).warnings
    assert "own: classes that share a name: 'pitch' / 'Pitch' of 0 and 1: " in warning
    assert "Give each name to one class" in warning


def test_llm_names_are_judged_by_check_and_plan(make: Make, tmp_path: Path) -> None:
    make()
    yaml = tmp_path / "own.yaml"
    yaml.write_text(yaml.read_text() + "llm: llm.json\n")

    def found(*names: str) -> tuple[ListFindings, DatasetCheck]:
        (tmp_path / "llm.json").write_text(json.dumps(dict(enumerate(names))))
        data_paths = DataPaths(cache=tmp_path / "cache", own=(read_own(yaml),))
        grid = Grid("few_shot", datasets=("own",), shots=(2,), variants=("llm",))
        plan = check_lists(expand(grid, data_paths.datasets()), data_paths)
        return plan, checked(data_paths)

    plan, check = found("nod: yes", "wave: hello", "bow: thanks")
    assert check.complete and not plan.problems
    assert plan.warnings[0] == f"own all, llm.json: {check.labels[0].elsewhere[0]}"
    assert "id 0 is 'wave', but 'nod' here, which is id 1" in plan.warnings[0]
    plan, check = found("move", "Move", "bow")
    assert not check.complete and check.labels[0].problem in next(iter(plan.problems))


def test_novel_classes_that_are_trained_on(make: Make, tmp_path: Path) -> None:
    (tmp_path / "novel.csv").write_text("id,name\n0,jump\n1,Nod\n2,clap\n")
    make(splits="{base_s1: train.txt, base_val: val.txt, novel_val: val.txt}")
    yaml = tmp_path / "own.yaml"
    yaml.write_text(yaml.read_text().replace("labels.csv", "{base: labels.csv, novel: novel.csv}"))
    data_paths = DataPaths(cache=tmp_path, own=(read_own(yaml),))
    grid = Grid("base_to_novel", datasets=("own",))
    warning, *_ = check_lists(expand(grid, data_paths.datasets()), data_paths).warnings
    assert warning == (
        "own novel_val: 1 of its 3 classes are trained on, too, in own base_s1, so they are not "
        "novel: Nod"
    )


def test_names_that_only_look_alike(make: Make) -> None:
    assert checked(make(names=["jump!", "jump?", "ju mp"])).complete


def test_what_is_trained_on_does_not_matter_where_nothing_is_trained(make: Make) -> None:
    data_paths = make(val="a1.mp4 0\nb1.mp4 1\nc1.mp4 2\n")
    grid = Grid("few_shot", datasets=("own",), shots=(2,), models=("clip",))
    assert check_lists(expand(grid, data_paths.datasets()), data_paths) == ({}, [])


def test_an_empty_list_is_refused_by_name(make: Make) -> None:
    with pytest.raises(UserError, match=r"own\.yaml: .*val\.txt lists no video"):
        make(val="\n")


def test_what_was_substituted_is_counted_and_listed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = "".join(f"d{number} 0\n" for number in range(30))
    make(val=f"a2 0\nb2.mp4 1\nc2.mp4 2\n{many}")
    for number in range(30):
        (tmp_path / "videos" / f"d{number}.ts").write_text(f"{number}")
    monkeypatch.setenv("TCCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    options = ["check", "--datasets", "own", "--dataset-file", str(tmp_path / "own.yaml")]
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0
    assert "own, substituted: a2: a2.mp4 (other ending)" in shown.stdout
    assert "own, substituted: and 21 more (see --format json)" in shown.stdout
    (made,) = json.loads(CliRunner().invoke(app, [*options, "--format", "json"]).stdout)
    assert made["substituted"] == len(made["examples"]["substituted"]) == 31


def test_a_list_that_cannot_be_used_is_a_problem_of_the_plan(make: Make, tmp_path: Path) -> None:
    data_paths = make()
    (tmp_path / "val.txt").write_text("a1.mp4 7\n")
    (problem,) = planned(data_paths).problems
    assert "label 7 is out of range" in problem
    (tmp_path / "val.txt").unlink()
    assert planned(data_paths) == ({}, []), "a list that is not here"


# ---- The published lists ----


def test_nothing_is_odd_in_the_published_lists(published_annotations: Path, tmp_path: Path) -> None:
    data_paths = DataPaths(
        cache=tmp_path, annotations=published_annotations, videos=tmp_path / "none"
    )
    for data in DATASETS.values():
        if not data.embedded:
            found = check(data, data_paths, llm=False)
            problems = [one.problem for one in found.splits if one.problem]
            # The list that is missing from the copies we had.
            assert all("k400_splits/train.txt is not there" in str(text) for text in problems)
            assert (found.leaked, found.leaked_copies) == (0, 0)
            assert [text for text in found.warnings if "is not there" not in text] == []
    for protocol in ("zero_shot", "few_shot", "base_to_novel", "fully_supervised"):
        variants = ("base", "llm")
        assert check_lists(expand(Grid(protocol, variants=variants)), data_paths) == ({}, [])
