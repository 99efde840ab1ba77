"""Class names that do not fit, missing lists, and lists that are not those a run began with."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.grid.request import RunPlan
from experiments.grid.spec import RunSpec
from experiments.planning.lists import ListsHere, list_problems
from experiments.planning.problems import Findings, check_plan
from experiments.store.ledger import Ledger
from protocols.datasets import DATASETS
from protocols.manifest import manifest
from tcclip.config import Execution, ModelConfig
from tcclip.data.annotations import read_class_names, sha256_of
from tcclip.model.tokens import tokenise
from tests.builders import make_result
from tests.experiments.planning.lists import (
    SETTINGS,
    own_paths,
    own_specs,
    write_own,
    write_published,
)
from tests.experiments.sweeping import copy_cache

TRAIN = "hmdb51/datasets_splits/hmdb_splits/train1_few_shot_2.txt"
LABELS = "hmdb51/labels/hmdb_51_labels.csv"


def problems(spec: RunSpec, data_paths: DataPaths) -> list[str]:
    return list(dict.fromkeys(list_problems(spec, ListsHere(data_paths))))


def hmdb_runs(**changes: Any) -> list[RunSpec]:
    grid: dict[str, Any] = {"datasets": ("hmdb51",), "shots": (2,), "settings": SETTINGS}
    return expand(Grid("few_shot", **grid | changes))


def published(folder: Path) -> DataPaths:
    (folder / "videos/hmdb51/a").mkdir(parents=True)
    lists = write_published(folder / "lists")
    return DataPaths(cache=folder, annotations=lists, videos=folder / "videos")


def check(specs: list[RunSpec], out: Path, data_paths: DataPaths, **more: Any) -> Findings:
    plan = RunPlan(Grid("few_shot"), specs, [])
    return check_plan(plan, Execution(device="cpu"), data_paths, out, **more)


# ---- Class names ----


def test_a_class_name_that_is_too_long_is_named_with_its_file(tmp_path: Path) -> None:
    long = "pushing something so that it falls off the table and rolls away over the floor"
    yaml = write_own(tmp_path, labels=f"0,push\n1,{long}\n")
    (spec,) = own_specs(yaml)
    (found,) = problems(spec, own_paths(yaml))
    assert str(tmp_path / "labels.csv") in found
    assert f"class name '{long}' needs 17 tokens, but only 11 are left" in found
    (longer,) = own_specs(yaml, settings=SETTINGS | {"model.text_length": 77})
    assert not problems(longer, own_paths(yaml))
    (bare,) = own_specs(yaml, models=("clip",), settings=SETTINGS | {"model.text_length": 17})
    assert not problems(bare, own_paths(yaml)), "without a prompt there is more room"


def test_a_prompt_that_leaves_no_room(tmp_path: Path) -> None:
    yaml = write_own(tmp_path)
    (spec,) = own_specs(yaml, settings=SETTINGS | {"model.prompt_length": 14})
    (found,) = problems(spec, own_paths(yaml))
    assert "needs 3 tokens, but only 1 are left" in found


def test_the_published_names_fit_the_published_settings(published_annotations: Path) -> None:
    """What planning takes for granted, where a file has the published content."""
    known = {entry.path: entry.sha256 for entry in manifest()}
    for data in DATASETS.values():
        for labels in data.label_sets if not data.embedded else ():
            for file, length in ((labels.file, 30), (labels.llm, 77)):
                path = published_annotations / (file or "")
                if file and path.is_file() and sha256_of(path) == known[file]:
                    names = read_class_names(path, labels.classes)
                    config = ModelConfig(text_length=length)
                    tokenise(names, config, __import__("torch").device("cpu"))


# ---- Lists that are not there ----


def test_a_list_that_is_missing_in_the_folder_of_lists_is_named(tmp_path: Path) -> None:
    (spec,) = hmdb_runs()
    data_paths = published(tmp_path)
    assert not problems(spec, data_paths)
    (tmp_path / "lists/datasets_splits/hmdb_splits/val1.txt").unlink()
    found = set(problems(spec, data_paths))
    assert len(found) == 1 and "val1.txt is not there; get the lists with `tcclip data" in str(
        found
    )


@pytest.mark.parametrize("annotations", [None, Path("/nowhere")])
def test_lists_on_other_machines_are_not_checked(tmp_path: Path, annotations: Path | None) -> None:
    data_paths = DataPaths(cache=tmp_path, annotations=annotations)
    found = check(hmdb_runs(), tmp_path, data_paths)
    assert not found.problems
    assert found.notes == ["not checked, their lists are not on this machine: hmdb51"]


# ---- Lists that have changed ----


@pytest.fixture
def done(tmp_path: Path) -> tuple[list[RunSpec], Path, DataPaths]:
    """Two finished runs that say which published lists they read."""
    data_paths = published(tmp_path)
    specs, out = hmdb_runs(seeds=(0, 1)), tmp_path / "out"
    Ledger(out).add(specs)
    for spec in specs:
        result = make_result(spec)
        digests = {
            name: sha256_of(tmp_path / "lists" / name.partition("/")[2]) for name in (TRAIN, LABELS)
        } | {"initial state": "0" * 64, "k400/elsewhere.txt": "1" * 64}
        provenance = result.provenance.model_copy(update={"digests": digests})
        result = result.model_copy(update={"provenance": provenance})
        Ledger(out).folder(spec.run_id).result.write_text(result.model_dump_json())  # type: ignore[union-attr]
    return specs, out, data_paths


def change(tmp_path: Path, name: str) -> None:
    file = tmp_path / "lists" / name.partition("/")[2]
    text = file.read_text().replace("7,class 7\n", "7,class seven\n")
    file.write_text(text.replace("7.avi 7\n", "7.avi 8\n"))


Done = tuple[list[RunSpec], Path, DataPaths]


@pytest.mark.parametrize("name", [TRAIN, LABELS])
def test_finished_runs_with_other_published_lists_are_refused(
    done: Done, tmp_path: Path, name: str
) -> None:
    specs, out, data_paths = done
    assert not check(specs, out, data_paths).problems
    change(tmp_path, name)
    found = check(specs, out, data_paths)
    ((text, run_ids),) = found.problems.items()
    assert text.startswith(f"finished with other lists, class names or packs: {name} (sha256 ")
    assert "Put them back, or give another --out, or --rerun" in text
    assert run_ids == [spec.run_id for spec in specs]
    assert not check(specs, out, data_paths, rerun="all").problems
    (left,) = check(specs, out, data_paths, rerun=specs[0].run_id).problems.values()
    assert left == [specs[1].run_id]
    assert not check(specs, tmp_path / "other", data_paths).problems


def test_the_demos_lists_are_compared_too(
    again: tuple[Path, RunSpec], tmp_path: Path, cache: Path
) -> None:
    out, spec = again
    data_paths = DataPaths(cache=copy_cache(cache, tmp_path / "cache"))
    assert not check([spec], out, data_paths).problems
    listed = data_paths.cache / "moving_shapes/splits/unseen2.txt"
    listed.write_text("\n".join(reversed(listed.read_text().splitlines())))
    (found,) = check([spec], out, data_paths).problems
    assert "moving_shapes/splits/unseen2.txt (sha256 " in found


def test_a_list_that_is_elsewhere_is_not_compared(done: Done, tmp_path: Path) -> None:
    specs, out, data_paths = done
    change(tmp_path, TRAIN)
    (tmp_path / "lists" / TRAIN.partition("/")[2]).unlink()
    assert not check(specs, out, data_paths).problems


def test_results_that_name_no_lists_are_not_compared(tmp_path: Path) -> None:
    data_paths = published(tmp_path)
    (spec,) = hmdb_runs()
    Ledger(tmp_path).add([spec])
    result = Ledger(tmp_path).folder(spec.run_id).result
    result.write_text(make_result(spec).model_dump_json())  # type: ignore[union-attr]
    assert not check([spec], tmp_path, data_paths).problems


@pytest.mark.parametrize("saved", [True, False])
def test_a_run_that_would_resume_with_other_lists_is_named(tmp_path: Path, saved: bool) -> None:
    """Without a checkpoint it starts anew, so nothing could be mixed."""
    data_paths = published(tmp_path)
    (spec,) = hmdb_runs()
    Ledger(tmp_path).add([spec])
    folder = tmp_path / "runs" / spec.run_id
    digests = {TRAIN: sha256_of(tmp_path / "lists" / TRAIN.partition("/")[2])}
    record = {"kind": "lists", "digests": digests, "step": 0, "time": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    (folder / "checkpoints").mkdir()
    if saved:
        (folder / "checkpoints/last.pt").write_bytes(b"")
    assert not check([spec], tmp_path, data_paths).problems
    change(tmp_path, TRAIN)
    found = list(check([spec], tmp_path, data_paths).problems)
    assert [text.partition(":")[0] for text in found] == (
        ["began with other lists, class names or packs"] if saved else []
    )


def test_finished_runs_with_other_own_lists_are_mentioned(tmp_path: Path) -> None:
    (before,) = own_specs(write_own(tmp_path))
    out = tmp_path / "out"
    Ledger(out).add([before])
    result = Ledger(out).folder(before.run_id).result
    result.write_text(make_result(before).model_dump_json())  # type: ignore[union-attr]
    yaml = write_own(tmp_path, val="e.mp4 1\nf.mp4 0\n")
    (after,) = own_specs(yaml)
    assert after.run_id != before.run_id
    found = check([after], out, own_paths(yaml))
    assert not found.problems
    (note,) = found.notes
    assert note.startswith(
        "finished before with the same settings and other lists, class names or packs"
    )
    assert before.run_id in note
    assert not check([before], out, own_paths(yaml)).notes


def test_finished_runs_that_read_other_videos_are_mentioned(tmp_path: Path) -> None:
    yaml = write_own(tmp_path)
    (spec,) = own_specs(yaml)
    out = tmp_path / "out"
    Ledger(out).add([spec])
    made = make_result(spec)
    for then, notes in ((tmp_path / "videos", 0), (tmp_path / "elsewhere", 1)):
        read_from = made.provenance.model_copy(update={"video_folders": {"own": str(then)}})
        result = made.model_copy(update={"provenance": read_from})
        Ledger(out).folder(spec.run_id).result.write_text(result.model_dump_json())  # type: ignore[union-attr]
        found = check([spec], out, own_paths(yaml))
        assert not found.problems and len(found.notes) == notes
    assert f"finished with the videos of {then}, now they are in {tmp_path}" in found.notes[0]
