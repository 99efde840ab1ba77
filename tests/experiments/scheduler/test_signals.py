"""Ctrl-C and SIGTERM: a clean end that says how to go on; and two sweeps on one folder."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import UserError
from experiments.grid.spec import RunSpec
from experiments.scheduler import loop, signals, sweep
from experiments.scheduler.executor import AttemptError
from experiments.scheduler.signals import StopNow, StopRequest
from experiments.store.lease import Lease
from experiments.store.ledger import Ledger
from results.reading.holder import lease_files
from results.reading.run_folder import RunFolder, State
from tests.experiments.scheduler.scripted import LOST, PAUSED, Scripted, by_name, grid
from tests.experiments.scheduler.scripted import run as run_scripted
from tests.experiments.sweeping import numbers, run_sweep, small_specs

COMMAND = str(Path(sys.executable).with_name("tcclip"))


def start(
    spec: RunSpec, folder: Path, cache: Path, *more: str, executor: str = "local",
    models: str = "tc_clip", prefix: Sequence[str] = (), **popen: Any,
) -> subprocess.Popen[str]:  # fmt: skip
    """The sweep of `spec` by its command line, in a process group of its own."""
    changed = [part for one in spec.key.overrides for part in ("--set", one)]
    arguments = [
        "sweep", "zero_shot", "--demo", "--models", models, "--seeds", "0", *changed, "--device",
        "cpu", "--micro-batch", "32", "--eval-batch", "64", "--executor", executor, "--out", "out",
    ]  # fmt: skip
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*prefix, COMMAND, *arguments, *more], cwd=folder, text=True, start_new_session=True,
        env={**os.environ, "TCCLIP_CACHE": str(cache), "PYTHONIOENCODING": "ascii"},
        **(streams | popen),
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


#: Signal, the step it comes after, and the exit status.
WARNED, ENDED = (signal.SIGUSR1, 2, 138), (signal.SIGTERM, 7, 143)


@pytest.mark.parametrize(
    "ends", [(ENDED,), pytest.param((WARNED, ENDED), marks=pytest.mark.slow)], ids=["one", "two"]
)
def test_signals_end_a_sweep_cleanly_and_the_next_one_goes_on(
    ends: tuple[tuple[signal.Signals, int, int], ...],
    finished: tuple[Path, RunSpec],
    tmp_path: Path,
    cache: Path,
) -> None:
    expected, spec = finished
    out = tmp_path / "out"
    folder = Ledger(out).folder(spec.run_id)
    # To a process and its group, as `timeout` does it; to its group alone. Loaders are in it.
    for number, step, status in ends:
        process = start(spec, tmp_path, cache, "--rerun", "failed", "--loader-workers", "1")
        wait_for(process, out, spec, step)
        if number == signal.SIGUSR1:
            process.send_signal(number)
        os.killpg(process.pid, number)
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
    assert steps(out, spec) == list(range(1, 13))
    assert numbers(out, spec) == numbers(expected, spec)


@pytest.mark.slow
def test_on_ray_a_warning_pauses_and_under_nohup_a_closed_terminal_changes_nothing(
    finished: tuple[Path, RunSpec], tmp_path: Path, cache: Path
) -> None:
    expected, spec = finished
    out, folder = tmp_path / "out", Ledger(tmp_path / "out").folder(spec.run_id)
    process = start(spec, tmp_path, cache, executor="ray")
    wait_for(process, out, spec, 3)
    process.send_signal(signal.SIGUSR1)
    os.killpg(process.pid, signal.SIGUSR1)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 138, error
    assert folder.state() is State.PAUSED
    assert "paused after step" in folder.log.read_text()
    master, slave = pty.openpty()
    process = start(
        spec, tmp_path, cache, executor="ray", prefix=["nohup"], stdin=slave, stdout=slave,
        stderr=slave, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    wait_for(process, out, spec, steps(out, spec)[-1] + 2)
    os.close(master)
    assert process.wait(300) == 0
    assert "+- " in (tmp_path / "nohup.out").read_text(encoding="ascii")
    assert steps(out, spec) == list(range(1, 13))
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
    monkeypatch.setattr(signals, "SAME_SECONDS", 0.1)
    specs = grid(1)

    class Twice(Busy):
        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
            return super().ended(timeout)

    summary = run_scripted(specs, tmp_path, Twice())
    assert summary.exit_code == 130
    assert not lease_files(Ledger(tmp_path).folder(specs[0].run_id).path)


class Killed(Scripted):
    """A cluster manager tells sweep and workers at the same time, and each of them twice."""

    number = signal.SIGTERM

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        signal.raise_signal(self.number)
        signal.raise_signal(self.number)
        job = self.jobs.pop()
        return {job.spec.run_id: LOST}


@pytest.fixture
def handlers() -> Iterator[None]:
    """What signals do is as before afterwards."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_what_a_signal_does_to_workers_is_no_failure_of_theirs(
    number: signal.Signals, tmp_path: Path, handlers: None
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    specs, executor = grid(2), Killed()
    executor.number = number
    summary = run_scripted(specs, tmp_path, executor)
    assert summary.exit_code == 128 + number
    assert by_name(specs, summary.left) == {"tc_clip0": "paused", "tc_clip1": "not started"}
    assert not summary.failed
    if number in signals.WARNINGS:
        signal.raise_signal(number)  # while the summary is printed


def test_under_nohup_a_sweep_goes_on_without_its_terminal(tmp_path: Path, handlers: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    class Closed(Scripted):
        def ended(self, timeout: float) -> dict[str, AttemptError | None]:
            signal.raise_signal(signal.SIGHUP)
            return super().ended(timeout)

    assert run_scripted(grid(2), tmp_path, Closed()).exit_code == 0


def test_ray_is_not_ended_by_what_its_group_is_sent(tmp_path: Path, handlers: None) -> None:
    started = []

    def make_executor() -> Scripted:
        code = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
        started.append(subprocess.check_output([sys.executable, "-c", code], text=True))
        os.kill(os.getpid(), signal.SIGUSR2)  # is not lost
        return Scripted()

    summary = run_scripted(grid(1), tmp_path, Scripted(), make_executor=make_executor)
    assert all(f"{number!r}" in started[0] for number in signals.WARNINGS)
    assert summary.exit_code == 128 + signal.SIGUSR2


# ---- Time limits ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4h", 14400), ("1h30m", 5400), ("90 min", 5400), ("1.5h", 5400), ("45s", 45),
     ("1-12:00:00", 129600), ("02:30:00", 9000)],
)  # fmt: skip
def test_durations(text: str, expected: float) -> None:
    assert signals.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "4", "0h", "-4h", "4:00", "4h30", "1e3s", "inf", "400d", "x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--time-limit '.*'; give a duration"):
        signals.seconds(text)


@pytest.mark.parametrize(
    ("option", "job_end", "left", "cause"),
    [
        (None, None, None, None),
        ("4h", None, 4 * 3600 - 120, "--time-limit 4h"),
        ("100s", None, 90, "--time-limit 100s"),
        (None, 7200, 7200 - 120, "the end of the Slurm job"),
        ("4h", 7200, 7200 - 120, "the end of the Slurm job"),
        ("1h", 7200, 3600 - 120, "--time-limit 1h"),
        (None, -5, None, "no end to come"),
        (None, 10**12, None, "no end to come"),
    ],
)
def test_the_time_of_a_sweep(
    option: str | None, job_end: int | None, left: float | None, cause: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(signals.time, "time", lambda: 1e9)
    monkeypatch.delenv(signals.JOB_END, raising=False)
    if job_end is not None:
        monkeypatch.setenv(signals.JOB_END, str(1_000_000_000 + job_end))
    said: list[str] = []
    limit = signals.time_limit(option, said.append, remote=False)
    assert (None if limit is None else limit.pause_at - 1e9) == left
    assert (cause or "") in (said[0] if said else str(limit or ""))


class NoTracker(nullcontext[None]):
    """In place of MLflow's thread."""

    gave_up = True

    def __init__(self, *_: object) -> None:
        super().__init__(None)


class Patient(Scripted):
    """Its runs never end by themselves, but save when they are to pause."""

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        time.sleep(0.05)
        paused = [job for job in self.jobs if job.folder.pause_request.exists()]
        return {job.spec.run_id: self.jobs.remove(job) or PAUSED for job in paused}  # type: ignore[func-returns-value]


@pytest.mark.parametrize("variable", [None, signals.JOB_END])
def test_a_sweep_pauses_before_its_time_is_over(
    variable: str | None,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tcclip: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    monkeypatch.setattr(sweep, "_make_executor", lambda *_, **__: Patient())
    monkeypatch.setattr(sweep, "SyncThread", NoTracker)
    command = ["sweep", "zero_shot", "--demo", "--executor", "local", "--out", str(tmp_path)]
    if variable is None:
        command += ["--time-limit", "2s"]
    else:
        monkeypatch.setenv(variable, str(int(time.time() + 3)))
    code, _, said = tcclip(*command)
    assert code == 1
    cause = "--time-limit 2s" if variable is None else "the end of the Slurm job"
    assert f"6 runs, 6 to do, in {tmp_path}; pauses at " in said
    assert f"stopping, in time for {cause}: the running runs save a checkpoint" in said
    assert f"0 finished, 0 failed, 1 paused, 5 not started (paused in time for {cause})" in said
    assert "to go on: " in said


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


def test_signals_during_the_cleaning_up_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_SECONDS", -1.0)
    with StopRequest(lambda: None, lambda text: None) as stop:
        stop.close()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop.signal is None
    with pytest.raises(StopNow), StopRequest(lambda: None, lambda text: None):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_two_sweeps_on_one_folder_share_its_runs(tmp_path: Path, cache: Path) -> None:
    specs = small_specs(models=("vifi_clip", "clip"), train__epochs=1, model__num_frames=2)
    sweeps = [start(specs[0], tmp_path, cache, models="vifi_clip,clip") for _ in range(2)]
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
    assert pids == {6, 0}


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
