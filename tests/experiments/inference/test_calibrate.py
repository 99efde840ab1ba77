"""`tcclip calibrate`: on a list, kept beside the checkpoint, applied by `predict`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.datasets.paths import DataPaths
from experiments.errors import ListsChanged
from experiments.inference.answers.lists import KnownVideos, of_run
from experiments.store.ledger import Ledger
from tcclip.data.annotations import Item
from tests.builders import make_result
from tests.experiments.sweeping import small_specs
from tests.tcclip.model.builders import NAMES
from tests.tcclip.predict.made import make_checkpoint, make_clips

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_checkpoint(tmp_path)
    make_clips(tmp_path / "clips", 4)
    # Some lists name no ending.
    lines = [f"clips/{n} {label}" for n, label in enumerate((0, 1, 0, 0))]
    (tmp_path / "val.txt").write_text("\n".join([*lines, "clips/absent.mp4 1"]))
    return tmp_path


def test_what_is_measured_is_kept_and_applied(tcclip: Run, folder: Path) -> None:
    weights = folder / "best.safetensors"
    command = ("calibrate", "--checkpoint", weights, "--list", folder / "val.txt", "--keep", "1")
    before = tcclip("predict", folder / "clips/0.mp4", "--checkpoint", weights, "--format", "json")
    code, out, err = tcclip(*command)
    assert code == 0, err
    kept = json.loads((folder / "best.calibration.json").read_text())
    assert f"temperature {kept['temperature']:.3g}" in out and "before" in out
    assert "1 of 5 videos left out" in err and kept["videos"] == 4
    predict = ("predict", folder / "clips/0.mp4", "--checkpoint", weights, "--format", "json")
    code, out, err = tcclip(*predict, "--reject", "calibrated")
    (found,) = json.loads(out)
    assert "calibrated: temperature" in err and found["rejected"] is False
    assert found["top"] != json.loads(before[1])[0]["top"]
    assert tcclip(*predict, "--no-calibrated")[1] == before[1]
    # It says nothing of other weights.
    assert "calibrated" not in tcclip(*predict, "--ensemble", "0.5")[2]
    (folder / "best.calibration.json").write_text("{}")
    code, out, err = tcclip(*predict)
    assert (code, out) == (2, "") and "make it again with tcclip calibrate" in err


@pytest.mark.parametrize(
    ("line", "arguments", "message"),
    [
        ("clips/0.mp4 99", (), "label 99 is out of range"),
        ("elsewhere/0.mp4 0", (), "correct --videos"),
        ("clips/0.mp4", (), "is not `relative/path label`"),
        ("clips/0.mp4 0", ("--keep", "0"), "keep 0"),
    ],
)
def test_lists_that_cannot_be_used(
    tcclip: Run, folder: Path, line: str, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "val.txt").write_text(line)
    command = ("calibrate", "--checkpoint", folder, "--list", folder / "val.txt", *arguments)
    code, out, err = tcclip(*command)
    assert (code, out) == (2, "") and message in err
    assert not list(folder.glob("*calibration*"))


def test_a_run_is_calibrated_on_its_validation_list(
    tcclip: Run, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    (spec,) = small_specs()
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    run = ledger.folder(spec.run_id)
    run.result.write_text(make_result(spec).model_dump_json())
    run.best.parent.mkdir()
    made = make_checkpoint(run.best.parent, names=NAMES)
    for path in (made, made.with_suffix(".json")):
        path.rename(run.best.with_suffix(path.suffix))
    command = ("--checkpoint", spec.run_id[:20], "--out", tmp_path)
    code, out, err = tcclip("calibrate", *command, "--format", "json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["videos"], found["data"]) == (48, "moving_shapes val")
    assert run.best.with_suffix(".calibration.json").exists()
    changed = (spec.validation[0].model_copy(update={"digest": "0" * 64}),)
    with pytest.raises(ListsChanged, match="has changed since the run was planned"):
        of_run(spec.model_copy(update={"validation": changed}), DataPaths(cache=cache))


def test_a_limit_draws_the_same_videos_each_time() -> None:
    items = [Item(f"{n}.mp4", 0) for n in range(100)]
    known = KnownVideos(items, NAMES, Path, "made")
    assert known.drawn(None) == known.drawn(100) == known
    assert known.drawn(5).items == known.drawn(5).items != items[:5]
    assert len(set(known.drawn(5).items)) == 5
