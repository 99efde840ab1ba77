"""One failing run never stops the others."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import (
    LeaseLost,
    OutOfMemory,
    StorageError,
    TooManyUnreadable,
    UserError,
    is_permanent,
)
from experiments.grid.plan import Grid, expand
from experiments.scheduler import loop, sweep
from experiments.scheduler.executor import AttemptError
from experiments.scheduler.summary import summary_lines
from experiments.store.files import write_text
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from results.reading.holder import lease_files
from results.reading.run_folder import RunFolder, State
from tcclip.config import Execution
from tests.experiments.scheduler.scripted import (
    LOST,
    PAUSED,
    WRONG,
    Scripted,
    attempt,
    by_name,
    grid,
    name,
    run,
)
from tests.experiments.scheduler.test_signals import NoTracker


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(loop, "WAIT_SECONDS", 0.05)


def test_a_lost_worker_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    specs = grid(3)
    executor = Scripted(tc_clip1=[LOST, LOST])
    summary = run(specs, tmp_path, executor)
    assert summary.exit_code == 0
    assert set(summary.finished) == {spec.run_id for spec in specs}
    # A retry comes before what was not tried yet.
    assert [name(job.spec) for job in executor.started] == [
        "tc_clip0", "tc_clip1", "tc_clip1", "tc_clip1", "tc_clip2",
    ]  # fmt: skip
    log = Ledger(tmp_path).folder(specs[1].run_id).log.read_text()
    assert "failed attempt 1, trying again: WorkerDied: rank 0 was killed" in log
    assert "failed attempt 2, trying again" in log
    assert executor.closed


def _unusable(*_: Any) -> bool:
    raise StorageError("may not be read")


def test_retries_end_and_the_summary_says_what_failed_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = grid(3)
    executor = Scripted(tc_clip1=[LOST, LOST, LOST])
    summary = run(specs, tmp_path, executor, retries=2)
    assert summary.exit_code == 1
    failed = specs[1].run_id
    assert summary.failed == {failed: "WorkerDied: rank 0 was killed"}
    assert summary.attempts == {failed: 3}
    assert len(summary.finished) == 2
    assert Ledger(tmp_path).folder(failed).state() is State.FAILED
    assert attempt(tmp_path, specs[1]) == 3
    assert summary_lines(summary, tmp_path, ["sweep", "zero_shot", "--set", "a=b c"]) == [
        "2 finished, 1 failed",
        f"failed: {failed} (3 attempts)\n  WorkerDied: rank 0 was killed\n"
        f"  log: {tmp_path}/runs/{failed}/run.log",
        f"to try again: tcclip sweep zero_shot --set 'a=b c' --out {tmp_path}",
    ]
    write_text(Ledger(tmp_path).folder(failed).last, "")
    assert summary_lines(summary, tmp_path, [])[-1].startswith(
        "to try again, from the last checkpoints: "
    )
    monkeypatch.setattr("experiments.scheduler.summary.exists", _unusable)
    assert summary_lines(summary, tmp_path, [])[-1].startswith("to try again: "), "nobody knows"
    # And that is true: the same command tries it again, as often as before.
    again = Scripted(tc_clip1=[LOST, LOST])
    assert run(specs, tmp_path, again, retries=2).exit_code == 0
    assert [name(job.spec) for job in again.started] == ["tc_clip1"] * 3
    assert summary_lines(run(specs, tmp_path, Scripted()), tmp_path, []) == []


def test_what_would_only_repeat_is_not_tried_again(tmp_path: Path) -> None:
    specs = grid(2)
    executor = Scripted(tc_clip0=[WRONG])
    summary = run(specs, tmp_path, executor)
    assert by_name(specs, summary.failed) == {"tc_clip0": "ValueError: 3 is not 4"}
    assert summary.attempts == {specs[0].run_id: 1}
    assert len(executor.started) == 2


def test_which_errors_repeat() -> None:
    for error in (UserError("x"), TooManyUnreadable("x"), KeyError("x"), FloatingPointError("x")):
        assert is_permanent(error), error
    for passing in (StorageError("x"), RuntimeError("NCCL"), OSError("x"), ConnectionError("x")):
        assert not is_permanent(passing), passing


def test_a_worker_that_says_nothing_counts_as_failed(tmp_path: Path) -> None:
    (spec,) = grid(1)

    class Silent(Scripted):
        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            return {self.jobs.pop().spec.run_id: None} if self.jobs else {}

    summary = run([spec], tmp_path, Silent(), retries=1)
    assert summary.failed == {spec.run_id: "WorkerDied: its worker ended without a result"}
    assert attempt(tmp_path, spec) == 2


def test_room_that_gets_free_is_used_at_once(tmp_path: Path) -> None:
    executor = Scripted(slots=2)
    assert run(grid(5), tmp_path, executor).exit_code == 0
    assert executor.most == 2

    class NodesLater(Scripted):
        """A cluster whose nodes come later."""

        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            self.slots += 1
            return super().ended(timeout)

    assert run(grid(2), tmp_path / "later", NodesLater(slots=0)).exit_code == 0


def test_fail_fast_pauses_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    specs = grid(4)

    class Pausing(Scripted):
        """The other run goes on until it is asked to pause."""

        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            time.sleep(timeout)
            for job in self.jobs:
                if name(job.spec) == "tc_clip1" or job.folder.pause_request.exists():
                    self.jobs.remove(job)
                    return {job.spec.run_id: WRONG if name(job.spec) == "tc_clip1" else PAUSED}
            return {}

    executor = Pausing(slots=2)
    summary = run(specs, tmp_path, executor, fail_fast=True)
    assert summary.exit_code == 1
    assert set(by_name(specs, summary.failed)) == {"tc_clip1"}
    assert by_name(specs, summary.left) == {
        "tc_clip0": "paused", "tc_clip2": "not started", "tc_clip3": "not started",
    }  # fmt: skip
    assert summary.halt == f"--fail-fast: {specs[1].run_id} failed"
    folder = Ledger(tmp_path).folder(specs[0].run_id)
    assert not folder.pause_request.exists()
    assert not folder.failure.exists()
    assert not lease_files(folder.path)


def test_children_start_after_their_parent_and_fail_with_it(tmp_path: Path) -> None:
    wide = Grid("few_shot", models=("tc_clip",), variants=("pretrained",), datasets=("hmdb51",),
                shots=(2, 4), seeds=(0,))  # fmt: skip
    specs = expand(wide)
    executor = Scripted(slots=5)
    assert run(specs, tmp_path, executor).exit_code == 0
    assert [job.spec.parent is None for job in executor.started] == [True, False, False]
    assert executor.most == 2, "the children side by side, the parent alone"

    class Broken(Scripted):
        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            return {self.jobs.pop().spec.run_id: WRONG}

    summary = run(specs, tmp_path / "broken", Broken())
    parent = specs[0].run_id
    assert summary.failed[parent] == WRONG.message
    assert [summary.failed[spec.run_id] for spec in specs[1:]] == [
        f"its parent run {parent} failed"
    ] * 2
    assert not summary.left


def test_a_run_somebody_else_is_at_is_waited_for(tmp_path: Path) -> None:
    (spec,) = grid(1)
    folder = Ledger(tmp_path).folder(spec.run_id)
    Ledger(tmp_path).add([spec])
    theirs = claim(folder.path)
    threading.Timer(0.3, theirs.release).start()
    executor = Scripted()
    summary = run([spec], tmp_path, executor)
    assert summary.exit_code == 0
    assert len(executor.started) == 1
    assert not lease_files(folder.path)


def test_what_another_sweep_finished_or_gave_up_is_not_done_again(tmp_path: Path) -> None:
    done, given_up, tried = specs = grid(3)
    ledger = Ledger(tmp_path)

    class Meanwhile(Scripted):
        """While the first run is computed, another sweep is at the others."""

        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            if len(self.started) == 1:
                ended = super().ended(timeout)
                run([given_up], tmp_path, Scripted(tc_clip1=[WRONG]))
                run([tried], tmp_path, Scripted(tc_clip2=[LOST]), retries=0)
                return ended
            return super().ended(timeout)

    executor = Meanwhile(tc_clip2=[LOST, LOST, LOST])
    summary = run(specs, tmp_path, executor, retries=2)
    assert [name(job.spec) for job in executor.started] == ["tc_clip0", "tc_clip2", "tc_clip2"]
    assert summary.failed[given_up.run_id] == WRONG.message
    assert summary.attempts == {given_up.run_id: 1, tried.run_id: 3}, "theirs count"
    assert summary.finished == (done.run_id,)
    assert ledger.folder(tried.run_id).state() is State.FAILED


@pytest.mark.parametrize("given", [8, "auto"])
def test_what_runs_out_of_memory_goes_on_smaller_and_so_do_its_like(
    tmp_path: Path, given: Any
) -> None:
    specs = grid(2, "tc_clip", "vifi_clip")
    short = AttemptError.of(OutOfMemory("not enough memory", 8))
    executor = Scripted(tc_clip0=[short, LOST])
    summary = run(specs, tmp_path, executor, retries=1, execution=Execution(micro_batch=given))
    assert summary.exit_code == 0
    assert [
        (name(job.spec), job.execution.micro_batch, job.reduction is not None)
        for job in executor.started
    ] == [
        ("tc_clip0", given, False), ("tc_clip0", 4, True), ("tc_clip0", 4, False),
        ("tc_clip1", 4, True), ("vifi_clip0", given, False), ("vifi_clip1", given, False),
    ]  # fmt: skip


def test_a_run_that_somebody_pauses_is_left_for_the_next_sweep(tmp_path: Path) -> None:
    specs = grid(2)
    summary = run(specs, tmp_path, Scripted(tc_clip0=[PAUSED]))
    assert summary.exit_code == 1
    assert by_name(specs, summary.left) == {"tc_clip0": "paused"}
    assert (
        summary_lines(summary, tmp_path, ["sweep"])[-1]
        == f"to go on: tcclip sweep --out {tmp_path}"
    )
    assert run(specs, tmp_path, Scripted()).exit_code == 0


def test_a_lease_lost_to_another_is_no_failure(tmp_path: Path) -> None:
    (spec,) = grid(1)
    lost = AttemptError.of(LeaseLost("another process took this run over"))
    assert run([spec], tmp_path, Scripted(tc_clip0=[lost]), retries=0).exit_code == 0
    assert attempt(tmp_path, spec) == 0


@pytest.mark.parametrize("file", ["result.json", "failure.json", "pause", "lease-000001.json"])
def test_a_folder_that_cannot_be_read_is_one_runs_failure(tmp_path: Path, file: str) -> None:
    specs = grid(3)
    path = Ledger(tmp_path).folder(specs[1].run_id).path / file
    path.mkdir(parents=True)  # reading or removing it is an error of the disk
    executor = Scripted()
    summary = run(specs, tmp_path, executor, retries=1)
    assert by_name(specs, summary.failed).keys() == {"tc_clip1"}
    assert f"cannot read {path}: Is a directory; move it away" in summary.failed[specs[1].run_id]
    assert summary.attempts[specs[1].run_id] == 2
    assert len(summary.finished) == 2
    assert executor.closed


def test_when_nothing_can_be_claimed_not_every_run_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, tried = grid(40), []

    def gone(*of: Any, **more: Any) -> None:
        tried.append(of)
        raise StorageError("cannot reach the store")

    monkeypatch.setattr(loop, "WAIT_SECONDS", 0.4)
    monkeypatch.setattr(loop, "claim", gone)
    summary = run(specs, tmp_path, Scripted(slots=4), retries=1)
    assert len(tried) == 6, "three runs, twice each; then the breaker knows"
    assert len(summary.failed) == 3
    assert len(summary.left) == 37
    assert summary.halt is not None
    assert "cannot reach the store" in summary.halt


def test_a_result_that_cannot_be_read_for_a_moment_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = grid(1)
    real, asked = loop._ended, []

    def ended(folder: RunFolder) -> bool:
        asked.append(folder)
        if len(asked) == 2:  # once when it is claimed, and then at its end
            raise StorageError("cannot use result.json: Input/output error")
        return real(folder)

    monkeypatch.setattr(loop, "_ended", ended)
    executor, said = Scripted(), []
    summary = run([spec], tmp_path, executor, retries=0, say=said.append)
    assert summary.exit_code == 0
    assert len(executor.started) == 1
    assert attempt(tmp_path, spec) == 0
    assert said == [f"{spec.run_id}: cannot use result.json: Input/output error"]


def test_a_terminal_that_was_closed_ends_no_sweep(tmp_path: Path) -> None:
    def say(text: str) -> None:
        raise OSError(5, "Input/output error")

    specs = grid(2)
    assert run(specs, tmp_path, Scripted(tc_clip0=[LOST]), say=say).exit_code == 0


def test_an_executor_that_fails_to_close_keeps_no_run_held(tmp_path: Path) -> None:
    specs = grid(2)

    class Hanging(Scripted):
        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            raise UserError("the cluster is gone")

        def close(self) -> None:
            raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        run(specs, tmp_path, Hanging(slots=2))
    assert not any(lease_files(Ledger(tmp_path).folder(spec.run_id).path) for spec in specs)


def test_a_cluster_without_room_is_waited_for_and_that_is_said_once(tmp_path: Path) -> None:
    specs, said = grid(1), []

    class Empty(Scripted):
        waited = 0

        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            self.waited += 1
            self.slots = 0 if self.waited < 5 else 1  # a node comes back
            return super().ended(timeout)

    assert run(specs, tmp_path, Empty(slots=0), say=said.append).exit_code == 0
    assert said == ["there is no room for a run in the cluster now; waiting until there is"]


@pytest.mark.parametrize("kind", ["named pipe", "device"])
@pytest.mark.parametrize("file", ["run.log", "metrics.jsonl"])
def test_what_is_no_file_is_not_appended_to(
    file: str, kind: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch,
    tcclip: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    """Opening a pipe that nobody reads blocks; MLflow's copy of a device would fill the disk."""
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    monkeypatch.setattr(sweep, "SyncThread", NoTracker)
    (spec,) = expand(Grid("zero_shot", demo=True, models=("vifi_clip",), seeds=(0,)))
    path = tmp_path / "runs" / spec.run_id / file
    path.parent.mkdir(parents=True)
    if kind == "device":
        path.symlink_to("/dev/full")
    else:
        os.mkfifo(path)
    code, _, error = tcclip(
        "sweep", "zero_shot", "--demo", "--models", "vifi_clip", "--seeds", "0",
        "--executor", "local", "--retries", "0", "--out", tmp_path,
    )  # fmt: skip
    assert code == 1 and "Traceback" not in error, error
    assert f"{file}: a {kind}, not a file; move it away" in error
