"""Ctrl-C and SIGTERM: a clean end that says how to go on; and two sweeps on one folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.grid.spec import RunSpec
from experiments.scheduler import loop, signals
from experiments.scheduler.executor import AttemptError
from experiments.scheduler.signals import StopNow, StopRequest
from experiments.store.lease import Lease
from experiments.store.ledger import Ledger
from results.reading.holder import lease_files
from results.reading.run_folder import RunFolder, State
from tests.experiments.scheduler.scripted import LOST, Scripted, by_name, grid
from tests.experiments.scheduler.scripted import run as run_scripted
from tests.experiments.sweeping import numbers, run_sweep, small_specs

COMMAND = str(Path(sys.executable).with_name("tcclip"))


def start(
    spec: RunSpec, folder: Path, cache: Path, *more: str, executor: str = "local"
) -> subprocess.Popen[str]:
    """The sweep of `spec` by its command line, in a process group of its own."""
    changed = [part for one in spec.key.overrides for part in ("--set", one)]
    arguments = [
        "sweep", "zero_shot", "--demo", "--models", "tc_clip", "--seeds", "0", *changed, "--device",
        "cpu", "--micro-batch", "32", "--eval-batch", "64", "--executor", executor, "--out", "out",
    ]  # fmt: skip
    return subprocess.Popen(
        [COMMAND, *arguments, *more], cwd=folder, text=True, start_new_session=True,
        env={**os.environ, "TCCLIP_CACHE": str(cache)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def steps(out: Path, spec: RunSpec) -> list[int]:
    metrics = Ledger(out).folder(spec.run_id).metrics
    if not metrics.exists():
        return []
    lines = [line for line in metrics.read_text().splitlines() if line.endswith("}")]
    return [one["step"] for one in map(json.loads, lines) if one["kind"] == "step"]


def wait_for(process: subprocess.Popen[str], out: Path, spec: RunSpec, step: int) -> None:
    """Until the run has trained so far."""
    deadline = time.monotonic() + 240
    while step not in steps(out, spec):
        assert process.poll() is None, "the sweep ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_signals_end_a_sweep_cleanly_and_the_next_one_goes_on(
    finished: tuple[Path, RunSpec], tmp_path: Path, cache: Path
) -> None:
    expected, spec = finished
    out = tmp_path / "out"
    folder = Ledger(out).folder(spec.run_id)
    # In the first epoch as Slurm does it, in the second as a terminal: to the whole group.
    for number, step, status in ((signal.SIGTERM, 3, 143), (signal.SIGINT, 15, 130)):
        process = start(spec, tmp_path, cache, "--rerun", "failed", "--loader-workers", "1")
        wait_for(process, out, spec, step)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == status, error
        assert "stopping: the running runs save a checkpoint (once more: at once)" in error
        assert "Traceback" not in error
        last = error.splitlines()[-1]
        assert last.startswith("to go on: ") and "tcclip sweep zero_shot --demo" in last
        assert last.endswith(f" --out {out}")
        assert "--rerun" not in last
        assert folder.state() is State.PAUSED, "not running, and to be gone on with"
        assert not lease_files(folder.path)
        assert not folder.pause_request.exists()
        assert not folder.failure.exists()
        done = steps(out, spec)[-1]
        assert f"paused after step {done}" in folder.log.read_text()
    assert run_sweep([spec], out, cache).exit_code == 0
    assert steps(out, spec) == list(range(1, 25))
    assert numbers(out, spec) == numbers(expected, spec)


class Busy(Scripted):
    """Computes in this process, without looking at whether it is to pause."""

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        signal.raise_signal(signal.SIGINT)
        time.sleep(60)
        raise AssertionError("nobody interrupted it")


def test_a_run_that_cannot_pause_is_given_up_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(signals, "_INTERRUPT_SECONDS", 0.1)
    specs = grid(2)
    before = signal.getsignal(signal.SIGINT)
    summary = run_scripted(specs, tmp_path, Busy())
    assert summary.exit_code == 130
    assert by_name(specs, summary.left) == {"tc_clip0": "paused", "tc_clip1": "not started"}
    assert not lease_files(Ledger(tmp_path).folder(specs[0].run_id).path)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "GRACE_SECONDS", 3600.0)
    specs = grid(1)

    class Twice(Busy):
        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
            return super().ended(timeout)

    summary = run_scripted(specs, tmp_path, Twice())
    assert summary.exit_code == 130
    assert not lease_files(Ledger(tmp_path).folder(specs[0].run_id).path)


def test_what_a_signal_does_to_workers_is_no_failure_of_theirs(tmp_path: Path) -> None:
    specs = grid(2)

    class Killed(Scripted):
        """A cluster manager tells sweep and workers at the same time."""

        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            signal.raise_signal(signal.SIGTERM)
            job = self.jobs.pop()
            return {job.spec.run_id: LOST}

    summary = run_scripted(specs, tmp_path, Killed())
    assert summary.exit_code == 143
    assert by_name(specs, summary.left) == {"tc_clip0": "paused", "tc_clip1": "not started"}
    assert not summary.failed


def test_a_run_that_a_signal_hits_between_two_states_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = grid(1)
    real = loop._ended

    def ended(folder: RunFolder) -> bool:
        if asked.append(folder) or len(asked) > 1:  # its attempt is over, and not yet recorded
            raise StopNow
        return real(folder)

    asked: list[RunFolder] = []
    monkeypatch.setattr(loop, "_ended", ended)
    summary = run_scripted(specs, tmp_path, Scripted(tc_clip0=[LOST]))
    assert by_name(specs, summary.left) == {"tc_clip0": "paused"}
    assert summary.exit_code == 1
    assert not lease_files(Ledger(tmp_path).folder(specs[0].run_id).path)


def test_signals_during_the_cleaning_up_change_nothing() -> None:
    with StopRequest(lambda: None, lambda text: None) as stop:
        stop.close()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop.signal is None
    with pytest.raises(StopNow), StopRequest(lambda: None, lambda text: None):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)


def test_two_sweeps_on_one_folder_share_its_runs(tmp_path: Path, cache: Path) -> None:
    specs = small_specs(models=("vifi_clip", "clip"), train__epochs=1, model__num_frames=2)
    more = ("--models", "vifi_clip,clip")
    sweeps = [start(specs[0], tmp_path, cache, *more) for _ in range(2)]
    ends = [process.communicate(timeout=240) for process in sweeps]
    assert [process.returncode for process in sweeps] == [0, 0], ends
    assert ends[0][0] == ends[1][0], "the same table"
    pids = set()
    for spec in specs:
        folder = Ledger(tmp_path / "out").folder(spec.run_id)
        log = folder.log.read_text()
        assert log.count("finished in") == 1, "trained to the end exactly once"
        assert log.count("goes on from step") == (spec.train.epochs > 0)
        assert not lease_files(folder.path)
        pids.add(len(steps(tmp_path / "out", spec)))
    assert pids == {12, 0}


def test_a_run_that_just_ended_is_not_asked_to_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The asking thread may look while an attempt's end is being tidied up."""
    specs = grid(1)
    real = Lease.release
    loops: list[loop.Loop] = []
    begin = loop.Loop.run

    def run(self: loop.Loop, *arguments: Any) -> None:
        loops.append(self)
        begin(self, *arguments)

    def release(self: Lease) -> None:
        loops[0]._pause_running()
        assert not self.folder.joinpath("pause").exists()
        real(self)

    monkeypatch.setattr(loop.Loop, "run", run)
    monkeypatch.setattr(Lease, "release", release)
    summary = run_scripted(specs, tmp_path, Scripted())
    assert summary.exit_code == 0
    assert loops
