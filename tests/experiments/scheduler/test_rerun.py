"""`--rerun`: nothing is deleted that does not begin again; a dry run shows what would begin."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.monitor.dry_run import dry_run, print_plan
from experiments.planning import problems
from experiments.scheduler.executor import AttemptError
from experiments.store.attempt_records import record_failure
from experiments.store.files import write_text
from experiments.store.ledger import Ledger
from experiments.store.rerun import back_up, find_backups
from results.reading.run_folder import State
from tcclip.config import Execution
from tests.builders import make_result
from tests.experiments.scheduler.scripted import WRONG, Scripted, by_name, grid, run

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own

#: What a user writes for the run of `small_specs`.
GRID = ("zero_shot", "--demo", "--models", "tc_clip", "--seeds", "0")


def content(out: Path) -> dict[str, bytes]:
    """Every file of the run folders."""
    return {str(path): path.read_bytes() for path in (out / "runs").rglob("*") if path.is_file()}


def tcclip(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["tcclip", *arguments])
    return cli.main()


def options(spec: RunSpec, out: Path) -> list[str]:
    """The arguments of a sweep over `spec` alone."""
    settings = [part for one in spec.key.overrides for part in ("--set", one)]
    return ["sweep", *GRID, *settings, "--out", str(out), "--executor", "local", "--device", "cpu"]


def test_a_run_that_cannot_begin_again_is_as_before(
    again: tuple[Path, RunSpec],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, spec = again
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    before = content(out)
    # A GPU that is gone when the run begins.
    monkeypatch.setattr(problems, "_device_problem", lambda _: ())
    with pytest.raises(SystemExit, match="1"):
        tcclip(monkeypatch, *options(spec, out), "--rerun", "all", "--device", "cuda")
    shown = capsys.readouterr()
    assert "1 runs could not begin again and are as they were before" in shown.err
    assert f"failed: {spec.run_id} (1 attempt)" in shown.err
    assert "device is 'cuda'" in shown.err
    assert "to try again: " not in shown.err, "without --rerun there is nothing to do"
    assert "TC-CLIP" in shown.out, "the report has its numbers again"
    log = str(Ledger(out).folder(spec.run_id).log)
    after = content(out)
    assert after.pop(log).startswith(before.pop(log))
    assert after == before


def test_after_a_signal_the_same_command_begins_what_was_not_begun(tmp_path: Path) -> None:
    specs = grid(2)
    assert run(specs, tmp_path, Scripted()).exit_code == 0
    ledger = Ledger(tmp_path)
    back_up(ledger, [spec.run_id for spec in specs], [])

    class Signalled(Scripted):
        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            write_text(self.jobs[0].folder.metrics, "new")
            signal.raise_signal(signal.SIGTERM)
            return super().ended(timeout)

    said: list[str] = []
    summary = run(specs, tmp_path, Signalled(), say=said.append)
    assert summary.exit_code == 143
    assert find_backups(ledger, {spec.run_id for spec in specs}) == {specs[1].run_id}
    assert "1 runs have not begun again; what they held stays in" in said[-1]
    write_text(ledger.folder(specs[1].run_id).metrics, "new")
    assert run(specs, tmp_path, Scripted()).finished == tuple(spec.run_id for spec in specs)
    assert not find_backups(ledger, {spec.run_id for spec in specs})


def test_a_sweep_that_ends_early_puts_back_what_it_did_not_begin(tmp_path: Path) -> None:
    specs = grid(3)
    assert run(specs, tmp_path, Scripted()).exit_code == 0
    before = content(tmp_path)
    back_up(Ledger(tmp_path), [spec.run_id for spec in specs], [])
    summary = run(specs, tmp_path, Scripted(tc_clip0=[WRONG]), fail_fast=True)
    assert by_name(specs, summary.failed) == {"tc_clip0": WRONG.message}
    assert by_name(specs, summary.left).keys() == {"tc_clip1", "tc_clip2"}
    assert summary.restored == {spec.run_id for spec in specs}
    after = content(tmp_path)
    after = {path: data for path, data in after.items() if not path.endswith("run.log")}
    assert after == before


@pytest.mark.parametrize(
    ("rerun", "again", "left"), [(None, [], 2), ("failed", [1], 2), ("all", [0, 1], 3)]
)
def test_a_dry_run_shows_what_would_be_run_again(
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
    rows = dry_run(specs, tmp_path, Execution(), data_paths.list_length, rerun)
    assert [row.state for row in rows] == [State.FINISHED, State.FAILED, State.PLANNED]
    assert [number for number, row in enumerate(rows) if row.again] == again
    print_plan(rows, Execution(), "terminal")
    shown = capsys.readouterr().out
    assert f"left: {left} runs" in shown
    assert shown.count(", again") == len(again)
    assert (f"--rerun: {len(again)} of these runs would be run again" in shown) == bool(again)
    assert content(tmp_path) == before
