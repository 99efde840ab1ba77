"""Lists that change while a run is waiting or paused: no number is made of two versions."""

from pathlib import Path

import pytest

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.worker.checkpoints import RunCheckpoints
from results.reading.metrics_log import recorded_lists
from tests.experiments.planning.lists import SETTINGS
from tests.experiments.sweeping import copy_cache, numbers, run_sweep, small_specs


def pause_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunCheckpoints, "interrupted", lambda self: True)


def fails_for_good(out: Path, spec: RunSpec) -> bool:
    failure = Ledger(out).folder(spec.run_id).read_failure()
    return failure is not None and failure.repeats


def swapped(text: str) -> str:
    first, second, rest = text.split("\n", 2)
    return "\n".join([second, first, rest])


CHANGES = {
    "splits/train.txt": swapped,
    "labels/unseen1.csv": lambda text: text.replace("red", "rosy"),
}


def test_a_paused_run_does_not_go_on_with_other_lists(
    finished: tuple[Path, RunSpec], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, spec = finished
    own_cache, out = copy_cache(cache, tmp_path / "cache"), tmp_path / "out"
    with monkeypatch.context() as patched:
        pause_at_once(patched)
        assert run_sweep([spec], out, own_cache).exit_code == 1
    state = Path(str(Ledger(out).folder(spec.run_id).last))
    saved = state.read_bytes()
    for file, change in CHANGES.items():
        listed = own_cache / "moving_shapes" / file
        before = listed.read_text()
        listed.write_text(change(before))
        summary = run_sweep([spec], out, own_cache)
        (cause,) = summary.failed.values()
        assert (
            f"began with other lists, class names or packs: moving_shapes/{file} (sha256 " in cause
        )
        assert "Put them back, or give another --out, or --rerun" in cause
        assert fails_for_good(out, spec)
        assert state.read_bytes() == saved
        listed.write_text(before)
    assert run_sweep([spec], out, own_cache).exit_code == 0
    assert numbers(out, spec) == numbers(expected, spec)


def test_before_the_first_checkpoint_other_lists_are_a_new_beginning(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache, out = copy_cache(cache, tmp_path / "cache"), tmp_path / "out"
    (spec,) = small_specs(train__epochs=1)

    def fail(self: RunCheckpoints, state: object, wait: bool) -> None:
        raise RuntimeError("no checkpoint")

    with monkeypatch.context() as patched:
        pause_at_once(patched)
        patched.setattr(RunCheckpoints, "save_last", fail)
        assert run_sweep([spec], out, own_cache).exit_code == 1
    metrics = Path(str(Ledger(out).folder(spec.run_id).metrics))
    assert recorded_lists(metrics.read_bytes())
    train = own_cache / "moving_shapes/splits/train.txt"
    train.write_text("\n".join(reversed(train.read_text().splitlines())))
    assert run_sweep([spec], out, own_cache).exit_code == 0


def own_data(folder: Path, cache: Path) -> Path:
    """Two classes of the embedded videos."""
    videos = cache / "moving_shapes"
    lines = [
        line
        for line in (videos / "splits/train_2shot.txt").read_text().splitlines()
        if line.endswith((" 0", " 1"))
    ]
    (folder / "train.txt").write_text("\n".join(lines))
    (folder / "val.txt").write_text("\n".join(lines[:2]))
    (folder / "labels.csv").write_text("0,push\n1,pull\n")
    yaml = folder / "own.yaml"
    yaml.write_text(
        f"name: own\nvideos: {videos / 'videos'}\nlabels: labels.csv\n"
        "splits: {train_4shot: train.txt, val: val.txt}\n"
    )
    return yaml


@pytest.mark.parametrize("file", ["train.txt", "val.txt", "labels.csv"])
def test_own_lists_that_change_after_planning_fail_the_run(
    tmp_path: Path, cache: Path, file: str
) -> None:
    data_paths = DataPaths.find(own=[own_data(tmp_path, cache)])
    grid = Grid("few_shot", datasets=("own",), shots=(4,), settings=SETTINGS)
    specs = expand(grid, data_paths.datasets())
    before = (tmp_path / file).read_text()
    turned = "\n".join(
        f"{line[:-1]}{1 - int(line[-1])}" for line in before.splitlines() if line[-1] in "01"
    )
    (tmp_path / file).write_text(turned or before.replace("pull", "pull up"))
    summary = run_sweep(specs, tmp_path / "out", data_paths)
    (cause,) = summary.failed.values()
    assert cause.startswith(f"ListsChanged: {tmp_path / file} has changed since this run was")
    assert fails_for_good(tmp_path / "out", specs[0])
