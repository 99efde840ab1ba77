"""`--rerun`: nothing is deleted that could not be run again; a dry run shows what would."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cli
from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.monitor.dry_run import dry_run, print_plan
from experiments.store.attempt_records import record_failure
from experiments.store.ledger import Ledger
from experiments.worker.job import Job
from experiments.worker.preflight import faults
from results.reading.run_folder import State
from tests.builders import make_result
from tests.experiments.sweeping import EXECUTION, break_list, copy_cache, small_specs

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own

#: What a user writes for the run of `small_specs`.
GRID = ("zero_shot", "--demo", "--models", "tc_clip", "--seeds", "0")


def content(out: Path) -> dict[str, bytes]:
    """Every file of the run folders."""
    return {str(path): path.read_bytes() for path in (out / "runs").rglob("*") if path.is_file()}


def tcclip(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["tcclip", *arguments])
    return cli.main()


def no_cuda(cache: Path) -> tuple[str, ...]:
    return ("--device", "cuda")


def broken_list(cache: Path) -> tuple[str, ...]:
    break_list(cache)
    return ()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_cuda, "device 'cuda' was asked for"),
        (broken_list, "AnnotationError"),
    ],
)
def test_what_could_not_be_run_again_is_not_deleted(
    again: tuple[Path, RunSpec],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], tuple[str, ...]],
    said: str,
) -> None:
    out, spec = again
    monkeypatch.setenv("TCCLIP_CACHE", str(copy_cache(cache, tmp_path / "cache")))
    more = damage(tmp_path / "cache")
    settings = [part for one in spec.key.overrides for part in ("--set", one)]
    before = content(out)
    status = tcclip(
        monkeypatch, "sweep", *GRID, *settings, "--out", str(out), "--executor", "local",
        "--rerun", "all", *more,
    )  # fmt: skip
    assert status == 2
    error = capsys.readouterr().err
    assert "nothing was deleted, since 1 of 1 runs could not begin again" in error
    assert f"  {spec.run_id}: " in error
    assert said in error
    assert content(out) == before


def test_what_another_sweep_finishes_while_it_is_looked_at_is_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (spec,) = expand(Grid("zero_shot", demo=True, models=("clip",), seeds=(0,)))
    folder = Ledger(tmp_path).folder(spec.run_id)
    record_failure(folder, "Boom", "boom", "trace")
    result = make_result(spec).model_dump_json()

    def look(*_: Any) -> dict[str, str]:
        Path(folder.result).write_text(result)
        return {}

    monkeypatch.setattr("experiments.scheduler.executor.LocalExecutor.faults", look)
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    with pytest.raises(SystemExit) as end:
        sys.exit(
            tcclip(
                monkeypatch, "sweep", "zero_shot", "--demo", "--models", "clip", "--seeds", "0",
                "--out", str(tmp_path), "--executor", "local", "--rerun", "failed",
            )
        )  # fmt: skip
    assert not end.value.code
    assert f"{spec.run_id}: finished meanwhile, and kept" in capsys.readouterr().err
    assert Path(folder.result).read_text() == result


def job(spec: RunSpec, out: Path, cache: Path, **more: Any) -> Job:
    return Job(spec=spec, out=out, data_paths=DataPaths(cache=cache), execution=EXECUTION, **more)


def test_lists_and_videos_must_be_there(tmp_path: Path) -> None:
    spec = expand(Grid("zero_shot"))[0]
    (found,) = faults([job(spec, tmp_path, tmp_path / "cache")]).values()
    assert "MissingData: k400: no annotations folder; give" in found


def test_given_weights_must_still_be_there(tmp_path: Path, cache: Path) -> None:
    (spec,) = small_specs()
    (tmp_path / "weights").write_text("others by now")
    changed = spec.model_copy(update={"checkpoint": "0" * 64})
    (found,) = faults(
        [job(changed, tmp_path, cache, files={"0" * 64: tmp_path / "weights"})]
    ).values()
    assert "weights does not hold what it did" in found


def test_a_parent_must_have_its_weights_or_be_run_again(tmp_path: Path, cache: Path) -> None:
    (parent,) = small_specs()
    child = parent.model_copy(update={"parent": parent.run_id})
    assert faults([job(child, tmp_path, cache)]) == {}, "it is computed first"
    folder = Ledger(tmp_path).folder(parent.run_id)
    Path(folder.path).mkdir(parents=True)
    Path(folder.result).write_text(make_result(parent).model_dump_json())
    Path(folder.best).parent.mkdir()
    Path(folder.best).write_bytes(b"")
    (found,) = faults([job(child, tmp_path, cache)]).values()
    assert "damaged or truncated" in found
    Path(folder.best).unlink()
    (found,) = faults([job(child, tmp_path, cache)]).values()
    assert "MissingData: the weights of its parent run are not" in found
    assert faults([job(parent, tmp_path, cache), job(child, tmp_path, cache)]) == {}


@pytest.mark.parametrize(
    ("rerun", "again", "left"), [(None, [], 2), ("failed", [1], 2), ("all", [0, 1], 3)]
)
def test_a_dry_run_shows_what_would_be_deleted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rerun: str | None,
    again: list[int],
    left: int,
) -> None:
    specs = expand(Grid("zero_shot", demo=True, models=("tc_clip",), seeds=(0, 1, 2)))
    ledger, data_paths = Ledger(tmp_path), DataPaths(cache=tmp_path / "cache")
    Path(ledger.folder(specs[0].run_id).path).mkdir(parents=True)
    Path(ledger.folder(specs[0].run_id).result).write_text(make_result(specs[0]).model_dump_json())
    record_failure(ledger.folder(specs[1].run_id), "Boom", "boom", "trace")
    before = content(tmp_path)
    rows = dry_run(specs, tmp_path, data_paths, rerun)
    assert [row.state for row in rows] == [State.FINISHED, State.FAILED, State.PLANNED]
    assert [number for number, row in enumerate(rows) if row.again] == again
    print_plan(rows, "terminal")
    shown = capsys.readouterr().out
    assert f"left: {left} runs" in shown
    assert shown.count(", again") == len(again)
    assert (f"--rerun: {len(again)} of these runs would be deleted" in shown) == bool(again)
    assert content(tmp_path) == before
