"""`tcclip data init` on class folders: which lists are written, and what is said of the rest."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from experiments.datasets.commands import app
from experiments.datasets.own.init import Request, init
from experiments.datasets.own.yaml_file import read_own
from experiments.datasets.paths import DataPaths
from experiments.errors import UserError
from experiments.grid.plan import Grid, expand
from experiments.store.ledger import Ledger
from tcclip.data.annotations import Item, read_class_names, read_list
from tests.experiments.datasets.own.made import SMALL, empty_videos
from tests.experiments.sweeping import EXECUTION, run_sweep

SMALL_BATCH = EXECUTION.model_copy(update={"micro_batch": 4})


def made(folder: Path, sizes: dict[str, int]) -> Path:
    return empty_videos(folder, [f"{name}/{i}.mp4" for name, n in sizes.items() for i in range(n)])


def lists(folder: Path) -> dict[str, list[Item]]:
    content = yaml.safe_load((folder / "dataset.yaml").read_text())
    return {name: read_list(folder / file) for name, file in content["splits"].items()}


def test_every_video_is_in_one_list_and_every_class_in_all(tmp_path: Path) -> None:
    made(tmp_path, {"push up": 20, "Nod, twice": 10, "wave": 3, "é": 40})
    written = init(Request(tmp_path, name="mine"))
    own = read_own(written.file).dataset
    assert read_class_names(tmp_path / own.label_sets[0].file) == [
        "Nod, twice", "push up", "wave", "é",
    ]  # fmt: skip
    found = lists(tmp_path)
    parts = [found[name] for name in ("train", "val", "test")]
    everything = [item for part in parts for item in part]
    assert len(everything) == len({item.path for item in everything}) == 73
    for item in everything:
        assert (tmp_path / item.path).is_file()
    counts = [Counter(item.label for item in part) for part in parts]
    assert [[count[label] for count in counts] for label in (1, 0, 2, 3)] == [
        [14, 3, 3], [7, 1, 2], [1, 1, 1], [28, 6, 6],
    ]  # fmt: skip


def test_few_shot_lists_are_part_of_train_and_of_each_other(tmp_path: Path) -> None:
    made(tmp_path, {"a": 12, "b": 30})
    init(Request(tmp_path, name="mine", shots=(1, 5)))
    found = lists(tmp_path)
    assert set(found) == {"train", "val", "test", "train_1shot", "train_5shot"}
    assert set(found["train_1shot"]) < set(found["train_5shot"]) < set(found["train"])
    assert Counter(item.label for item in found["train_5shot"]) == {0: 5, 1: 5}


def test_the_seed_alone_decides_and_a_new_class_moves_no_other(tmp_path: Path) -> None:
    for name, sizes in (("one", {"a": 20, "b": 20}), ("two", {"a": 20, "aa": 20, "b": 20})):
        made(tmp_path / name, sizes)
        init(Request(tmp_path / name))
    one, two = lists(tmp_path / "one"), lists(tmp_path / "two")
    init(Request(tmp_path / "one", seed=1, force=True))
    other = lists(tmp_path / "one")
    init(Request(tmp_path / "one", force=True))
    assert lists(tmp_path / "one") == one and other["test"] != one["test"]
    for split in one:
        kept = [item.path for item in two[split] if not item.path.startswith("aa/")]
        assert kept == [item.path for item in one[split]], split


@pytest.mark.parametrize(
    ("videos", "shares", "expected"),
    [
        (1, (0.7, 0.15, 0.15), {"train": 1}),
        (2, (0.7, 0.15, 0.15), {"train": 1, "test": 1}),
        (100, (0.5, 0.0, 0.5), {"train": 50, "test": 50}),
        (7, (0.0, 0.0, 1.0), {"test": 7}),
        (7, (0.0, 0.5, 0.5), {"val": 3, "test": 4}),
    ],
)
def test_shares(
    videos: int, shares: tuple[float, ...], expected: dict[str, int], tmp_path: Path
) -> None:
    made(tmp_path, {"a": videos})
    written = init(Request(tmp_path, name="mine", shares=shares))
    counts = {name: n for name, n in written.lists.items() if "shot" not in name}
    assert counts == expected


def test_the_commands_to_go_on_with_fit_the_lists(tmp_path: Path) -> None:
    """A list that is shorter than the protocol's batch would give no step."""
    made(tmp_path, {"a": 10, "b": 10, "c": 10})
    written = init(Request(tmp_path, name="mine", shots=(3, 5)))
    assert [
        command.replace(f" --dataset-file {written.file}", "") for command in written.commands
    ] == [
        "tcclip data check --decode 10",
        "tcclip sweep few_shot --set train.global_batch=8",
        "tcclip sweep fully_supervised --set train.global_batch=20",
        "tcclip evaluate zero_shot --checkpoint FILE",
    ]
    few = init(Request(tmp_path, name="mine", shots=(1, 5), force=True)).commands[1]
    assert few.endswith(" --shots 5 --set train.global_batch=12"), "three videos are no group"
    made(tmp_path / "more", {str(number) + " wave": 40 for number in range(32)})
    assert init(Request(tmp_path / "more", shots=(2,))).commands[1].endswith("yaml")


@pytest.mark.parametrize("val", ["Validation", "dev", "eval", "validate"])
def test_folders_that_are_split_already(val: str, tmp_path: Path) -> None:
    paths = ["train/a/1.mp4", "train/b/x/2.mp4", f"{val}/a/3.mp4", "test/b/4.mp4"]
    empty_videos(tmp_path, paths)
    (tmp_path / "test" / "c").mkdir()
    written = init(Request(tmp_path, name="mine", shots=(1,)))
    assert "left out, folders without a video: 1 (test/c)" in written.notes
    found = lists(tmp_path)
    assert {name: [(one.path, one.label) for one in items] for name, items in found.items()} == {
        "train": [("train/a/1.mp4", 0), ("train/b/x/2.mp4", 1)],
        "val": [(f"{val}/a/3.mp4", 0)],
        "test": [("test/b/4.mp4", 1)],
        "train_1shot": [("train/a/1.mp4", 0), ("train/b/x/2.mp4", 1)],
    }


def test_folders_that_may_be_no_classes(tmp_path: Path) -> None:
    empty_videos(tmp_path / "wrapped", ["videos/walk/1.mp4", "videos/run/2.mp4"])
    with pytest.raises(UserError, match=r"only: 2 \(run, walk\).*give .*/wrapped/videos instead"):
        init(Request(tmp_path / "wrapped"))
    empty_videos(tmp_path / "by_camera", ["cam1/walk/1.mp4", "cam1/run/2.mp4", "cam2/walk/1.mp4"])
    written = init(Request(tmp_path / "by_camera"))
    assert "all class folders hold folders only: 2 (cam1, cam2)" in "\n".join(written.notes)


def test_the_check_of_a_protocol_knows_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data set whose file is given is meant, with the lists that the protocol needs."""
    monkeypatch.setenv("TCCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made(tmp_path, {"a": 10, "b": 10})
    init(Request(tmp_path, name="mine", shots=(3,)))
    asked = ["check", "--dataset-file", str(tmp_path), "--format", "json"]
    for more, splits in (
        (["--protocol", "few_shot"], {"train_3shot", "val", "test"}),
        ([], {"train", "train_3shot", "val", "test"}),
    ):
        done = CliRunner().invoke(app, [*asked, *more])
        (check,) = json.loads(done.stdout)
        assert check["dataset"] == "mine"
        assert {one["split"] for one in check["splits"]} == splits
    with pytest.raises(UserError, match="base_to_novel cannot be run on mine"):
        CliRunner().invoke(app, [*asked, "--protocol", "base_to_novel"], catch_exceptions=False)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    paths = ["a/1.mp4", "a/2.MOV", "b/3.webm", "b/._3.webm", "a/thumbs/1.jpg", "4.mp4", "a/n.txt"]
    empty_videos(tmp_path, paths)
    empty_videos(tmp_path, ["a/line\nbreak.mp4"])
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.mp4")
    (tmp_path / "a" / "gone.mp4").symlink_to("nowhere")
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    written = init(Request(tmp_path, name="mine"))
    notes = "\n".join(written.notes)
    assert "no videos: 1 files (1 .txt)" in notes
    assert "folders of images beside video files: 1 (a/thumbs)" in notes
    assert "in no class folder: 1 (4.mp4)" in notes
    assert "folders without a video: 1 (empty)" in notes
    assert "links to nothing, pipes or devices: 2 ('a/gone.mp4', 'a/pipe.mp4')" in notes
    assert "a link back to a folder it is in: b/round" in notes
    assert r"a list cannot hold the name: 1 ('a/line\nbreak.mp4')" in notes
    assert sum(n for name, n in written.lists.items() if "shot" not in name) == 3


@pytest.mark.parametrize(
    ("name", "flip"), [("SwipeLeft", False), ("turn clockwise", False), ("RIGHT_turn", False),
                       ("bright leftovers", True)],
)  # fmt: skip
def test_classes_that_a_mirror_confuses(name: str, flip: bool, tmp_path: Path) -> None:
    made(tmp_path, {name: 2, "nod": 2})
    written = init(Request(tmp_path, name="mine"))
    assert read_own(written.file).dataset.flip is flip
    assert any(f"another class: 1 ({name})" in note for note in written.notes) is not flip


def test_classes_that_are_links_are_read(tmp_path: Path) -> None:
    empty_videos(tmp_path, ["disk/x/1.mp4", "data/b/2.mp4"])
    (tmp_path / "data" / "a").symlink_to(tmp_path / "disk" / "x")
    init(Request(tmp_path / "data", shares=(0, 0, 1)))
    assert [item.path for item in lists(tmp_path / "data")["test"]] == ["a/1.mp4", "b/2.mp4"]


def test_lists_elsewhere_leave_the_videos_folder_alone(tmp_path: Path) -> None:
    made(tmp_path / "videos", {"a": 3})
    written = init(Request(tmp_path / "videos", to=tmp_path / "lists of mine"))
    assert written.file == tmp_path / "lists of mine" / "dataset.yaml"
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["a"]
    assert read_own(written.file).videos == tmp_path / "videos"


@pytest.mark.parametrize(
    ("paths", "changes", "message"),
    [
        ([], {}, "no video below it"),
        (["1.mp4", "2.mp4"], {}, "2 videos are in no class folders"),
        (["train/a/1.mp4", "test/a/2.mp4", "more/3.mp4"], {}, "test, train beside 1 .more."),
        (["train/a/1.mp4", "train/b/2.mp4", "more/3.mp4"], {}, "folder train, .* beside 1 .more."),
        (["val/a/1.mp4", "valid/a/2.mp4"], {}, "the same split"),
        (["a/1.mp4"], {"shares": (0.5, 0.5)}, "--shares 0.5,0.5: give those of train, val and"),
        (["a/1.mp4"], {"shares": (0.9, 0.2, -0.1)}, "which make up 1"),
        (["a/1.mp4"], {"shots": (2,)}, "--shots 2: class 'a' has 1 training videos; allowed: 1"),
        (["a/1.mp4"], {"shots": (2,), "shares": (0, 0, 1)}, "no training list"),
        (["test/a/1.mp4"], {"shares": (0, 0, 1)}, "already in the lists test"),
        (["a/1.mp4"], {"name": "hmdb51"}, "hmdb51 is a published data set"),
        (["a/1.mp4"], {"name": "../x"}, "no name for a data set"),
        (["a/1.mp4"], {"names": Path("x")}, "--names is for mmaction2's lists"),
        (["a/1.mp4", "__/2.mp4"], {}, "a class folder is called '__'"),
        (
            ["a/1.mp4"],
            {"form": "folders", "lists": (Path("/dev/null"),)},
            "class folders need none",
        ),
    ],
)
def test_what_cannot_be_done(
    paths: list[str], changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    empty_videos(tmp_path, paths)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        init(Request(tmp_path, **{"name": "mine", **changes}))  # type: ignore[arg-type]
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_nothing_is_written_over_silently(tmp_path: Path) -> None:
    made(tmp_path, {"a": 3})
    written = init(Request(tmp_path, name="mine"))
    written.file.write_text(written.file.read_text() + "title: Edited by hand\n")
    with pytest.raises(UserError, match=r"dataset.yaml is already there; --force"):
        init(Request(tmp_path, name="mine"))
    assert "Edited by hand" in written.file.read_text()
    init(Request(tmp_path, name="mine", force=True))
    assert "Edited by hand" not in written.file.read_text()


def test_folders_of_frames_run_to_a_result(tmp_path: Path) -> None:
    for name, level in (("dark", 40), ("bright", 220)):
        for video in range(2):
            folder = tmp_path / "videos" / name / f"video {video}"
            folder.mkdir(parents=True)
            for number in range(12):
                image = Image.new("RGB", (48, 40), (level, level, 10 * number))
                image.save(folder / f"img_{number:05}.jpg")
    written = init(Request(tmp_path / "videos", name="mine", shares=(0, 0, 1)))
    assert written.lists == {"test": 4}
    data_paths = DataPaths.find(own=[written.file])
    settings = {name: value for name, value in SMALL.items() if "epochs" not in name}
    grid = Grid("zero_shot", datasets=("mine",), models=("clip",), settings=settings)
    (spec,) = expand(grid, data_paths.datasets())
    summary = run_sweep([spec], tmp_path / "out", data_paths, SMALL_BATCH)
    assert summary.exit_code == 0, summary.failed
    result = Ledger(tmp_path / "out").folder(spec.run_id).read_result()
    assert result is not None and result.provenance.readers == {"frames": 4}
    assert result.provenance.videos_missing == result.provenance.videos_unreadable == 0


def test_folders_that_link_to_each_other_are_read_once(tmp_path: Path) -> None:
    names = ("A", "B", "C")
    made(tmp_path, dict.fromkeys(names, 3))
    for name in names:
        for other in set(names) - {name}:
            (tmp_path / name / f"to{other}").symlink_to(Path("..") / other)
    written = init(Request(tmp_path, name="mine"))
    found = [item for name in ("train", "val", "test") for item in lists(tmp_path)[name]]
    assert sorted(item.path for item in found) == [f"{n}/{i}.mp4" for n in names for i in range(3)]
    assert sum("read already" in note for note in written.notes) == 6


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    made(tmp_path, {"train": 4, "car": 4})
    assert init(Request(tmp_path, name="mine")).classes == 2
