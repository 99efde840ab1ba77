"""The live display, on a terminal and without one."""

import io
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest
from rich.console import Console

from experiments.grid.spec import RunSpec
from experiments.monitor.display import Display, statuses
from experiments.store.attempt_records import record_failure
from experiments.store.ledger import Ledger
from results.reading.run_folder import State
from results.reading.status import run_status

COMMAND = Path(sys.executable).with_name("tcclip")


def test_the_display_continues_when_folders_are_deleted(tmp_path: Path) -> None:
    ledger, console = Ledger(tmp_path), Console(file=io.StringIO(), width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.monitor.display.REFRESH_SECONDS", 0.01)
        with Display(lambda: statuses(ledger), console):
            for number in range(5):
                record_failure(ledger.folder(f"zero_shot-a-{number}"), "E", "E: boom", "t")
                time.sleep(0.03)
                shutil.rmtree(tmp_path / "runs")
            record_failure(ledger.folder("zero_shot-b-9"), "E", "E: at last", "t")
    assert "zero_shot-b-9: failed, E: at last" in console.file.getvalue()  # type: ignore[attr-defined]


def test_watching_redraws_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    """On a terminal: a run that appears is shown, and Ctrl-C ends it with exit status 0."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [str(COMMAND), "status", "--watch", "--out", str(tmp_path), "--state", "failed"]
    environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "ascii"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment,
        # Background jobs of a shell ignore it, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    os.close(slave)
    try:
        _expect(master, "0 runs")
        record_failure(Ledger(tmp_path).folder("zero_shot-x-0"), "E", "E: it ± went wrong", "t")
        _expect(master, "it +- went wrong")
        process.send_signal(signal.SIGINT)
        rest = _expect(master, None)
        assert process.wait(20) == 0
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _expect(terminal: int, wanted: str | None) -> str:
    """What comes from the terminal until `wanted` is in it, or until its other side is closed."""
    seen, deadline = "", time.monotonic() + 30
    while wanted is None or wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # closed
                data = b""
            if not data:
                assert wanted is None, seen
                return seen
            seen += data.decode(errors="replace")
    return seen


def test_a_real_run(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    first = json.loads(Path(folder.metrics).read_text().splitlines()[0])
    assert {name: first[name] for name in ("kind", "device", "workers", "global_batch")} == {
        "kind": "start", "device": "cpu", "workers": 1, "global_batch": 32,
    }  # fmt: skip
    done = run_status(folder)
    assert (done.state, done.epoch, done.attempts) == (State.FINISHED, 2, 1)
    assert (done.node, done.device, done.workers) == (first["host"], "cpu", 1)
    Path(folder.result).unlink()
    stale = run_status(folder)
    assert (stale.state, stale.epoch, stale.epochs, stale.attempts) == (State.STALE, 2, 2, 1)
    assert (stale.node, stale.gpu_hours) == (first["host"], 0.0)
    assert stale.clips_per_second == pytest.approx(done.clips_per_second)
    assert stale.clips_per_second
    assert stale.since is not None
    assert done.since is not None
    assert stale.since <= done.since + 1, "a result's time is in whole seconds"
