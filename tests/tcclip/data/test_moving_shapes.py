from __future__ import annotations

import fcntl
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from protocols.datasets import MOVING_SHAPES
from tcclip.data import moving_shapes
from tcclip.data.annotations import read_class_names, read_list
from tcclip.data.seeding import seeded_rng
from tcclip.data.shape_video import MOTIONS, render_clip


def test_files_are_what_the_protocols_name(shapes: Path) -> None:
    for split in MOVING_SHAPES.splits:
        classes = MOVING_SHAPES.labels(split.labels).classes
        items = read_list(shapes / split.annotations, classes)
        assert len(items) == split.videos
        assert {item.label for item in items} == set(range(classes))
        assert all((shapes / "videos" / item.path).is_file() for item in items)
    for labels in MOVING_SHAPES.label_sets:
        assert len(read_class_names(shapes / labels.file)) == labels.classes


def test_file_names_match_the_labels(shapes: Path) -> None:
    names = {
        split: read_class_names(
            shapes / MOVING_SHAPES.labels(MOVING_SHAPES.split(split).labels).file
        )
        for split in ("train", "val", "unseen1", "novel_val")
    }
    for split, classes in names.items():
        for item in read_list(shapes / MOVING_SHAPES.split(split).annotations):
            assert item.path.startswith(classes[item.label].replace(" ", "_"))
    assert not set(names["train"]) & set(names["novel_val"])
    assert names["train"] == names["val"]


def test_train_and_test_share_no_video(shapes: Path) -> None:
    def paths(split: str) -> set[str]:
        return {item.path for item in read_list(shapes / MOVING_SHAPES.split(split).annotations)}

    assert not paths("train") & (paths("val") | paths("novel_val"))
    assert paths("train_2shot") < paths("train_4shot") < paths("train_8shot")
    assert len({frozenset(paths(f"base_s{s}")) for s in (1, 2, 3)}) == 3
    unseen = [paths(f"unseen{i}") for i in (1, 2, 3)]
    assert set.union(*unseen) == paths("novel_val")
    assert sum(map(len, unseen)) == len(paths("novel_val"))


def test_attribute_values_are_balanced() -> None:
    seen = [(one.colour, one.shape, one.motion) for one in moving_shapes.seen_classes()]
    for first, second in combinations(range(3), 2):
        pairs = Counter((one[first], one[second]) for one in seen)
        assert len(set(pairs.values())) == 1
        sizes = (6, 4, 4)
        assert len(pairs) == sizes[first] * sizes[second]
    for part in (1, 2, 3):
        dealt = moving_shapes.unseen_classes(part)
        assert set(Counter(one.shape for one in dealt).values()) == {4}
        assert set(Counter(one.motion for one in dealt).values()) == {4}
        assert set(Counter(one.colour for one in dealt).values()) == {2, 3}


def test_unordered_frames_tell_motions_apart() -> None:
    def spread(motion: str, number: int) -> tuple[float, float, float]:
        frames = render_clip("white", "circle", motion, seeded_rng("test", motion, number))
        cover = (frames.min(-1) > 130).astype(float)
        rows, columns = np.arange(cover.shape[1]), np.arange(cover.shape[2])
        area = cover.sum((1, 2))
        there = area > 20
        y = (cover.sum(2)[there] @ rows) / area[there]
        x = (cover.sum(1)[there] @ columns) / area[there]
        return float(y.std()), float(x.std()), float(area.std() / area.mean())

    means = {m: np.mean([spread(m, n) for n in range(10)], axis=0) for m in MOTIONS}
    up, side, grow, blink = (means[motion] for motion in MOTIONS)
    assert up[0] > 3 * max(side[0], grow[0], blink[0])
    assert side[1] > 3 * max(up[1], grow[1], blink[1])
    assert min(grow[2], blink[2]) > 1.5 * max(up[2], side[2])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A set of two colours, one clip a class and kind, made by three processes at once."""
    folder, context = tmp_path_factory.mktemp("small") / "shapes", get_context("fork")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("TRAIN_CLIPS", "VAL_CLIPS", "UNSEEN_CLIPS"):
            patch.setattr(moving_shapes, kind, 1)
        patch.setattr(moving_shapes, "COLOURS", moving_shapes.COLOURS[:2])
        callers = [
            context.Process(target=moving_shapes.ensure_built, args=(folder,)) for _ in range(3)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert [caller.exitcode for caller in callers] == [0, 0, 0]
        assert moving_shapes.is_complete(folder)
        yield folder


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.*")}


def test_an_incomplete_folder_is_rebuilt(small: Path) -> None:
    before = _contents(small)
    (small / "splits" / "val.txt").unlink()
    (small / "manifest.json").write_text("")
    assert not moving_shapes.is_complete(small)
    moving_shapes.ensure_built(small)
    assert moving_shapes.is_complete(small)
    assert _contents(small) == before, "the same seed, the same bytes"


def test_another_process_builds_meanwhile_and_is_ended_with_the_block(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    with moving_shapes.building(folder):
        deadline = time.monotonic() + 60
        while not list(folder.glob("videos/*.mp4")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with (tmp_path / ".shapes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError if it still builds
    assert not moving_shapes.is_complete(folder)


def test_what_is_there_is_not_built_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with moving_shapes.building(small):
        pass
