"""Status from files alone, and how it is shown."""

import io
import json
from pathlib import Path

from rich.console import Console

from experiments.display import count_states, duration, status_line, status_table
from experiments.lease import held
from experiments.ledger import Ledger, RunFolder, State
from experiments.status import TAIL_BYTES, RunStatus, run_status


def write_metrics(folder: RunFolder, steps: int) -> None:
    folder.path.mkdir(parents=True)
    records = [{"kind": "start", "step": 0, "epochs": 4, "total_steps": 40, "time": 0.0}]
    for step in range(1, steps + 1):
        epoch = (step - 1) // 10 + 1
        records.append(
            {"kind": "step", "epoch": epoch, "step": step, "loss": 1 / step, "lr": 1.0,
             "lr_fast": 1.0, "time": float(step)}
        )  # fmt: skip
        if step % 10 == 0:
            records.append({"kind": "epoch", "epoch": epoch, "step": step, "loss": 0.5, "time": 0,
                            **({"top1": 10.0 + step} if epoch % 2 else {})})  # fmt: skip
    folder.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_progress_and_time_left_of_a_running_run(tmp_path: Path) -> None:
    folder = Ledger(tmp_path).folder("run")
    write_metrics(folder, 25)
    with held(folder.path):
        status = run_status(folder)
    assert (status.state, status.epoch, status.epochs, status.step) == (State.RUNNING, 3, 4, 25)
    assert status.top1 == 20.0, "the last validation, although epoch 2 had none"
    assert status.seconds_left == 15.0


def test_a_half_written_line_and_a_long_file_do_no_harm(tmp_path: Path) -> None:
    folder = Ledger(tmp_path).folder("run")
    write_metrics(folder, 2 * TAIL_BYTES // 80)
    assert folder.metrics.stat().st_size > TAIL_BYTES
    with folder.metrics.open("a") as file:
        file.write('{"kind": "step", "ep')
    status = run_status(folder)
    assert status.state is State.STALE
    assert status.step == 2 * TAIL_BYTES // 80
    assert status.epochs == 4


def test_the_table_shows_state_numbers_and_the_last_error() -> None:
    rows = [
        RunStatus("a-run", State.RUNNING, 3, 4, 25, 40, 0.25, 31.2, 100.0),
        RunStatus("b-run", State.FAILED, error="ValueError: no"),
        RunStatus("c-run", State.PLANNED),
    ]
    console = Console(file=io.StringIO(), width=120)
    console.print(status_table(rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("3/4", "0.250", "31.2", "2 min", "ValueError: no", "1 running"):
        assert part in text
    assert status_line(rows[0]) == (
        "a-run: running, epoch 3/4, loss 0.250, val top-1 31.2 %, 2 min left"
    )
    assert status_line(rows[1]) == "b-run: failed, ValueError: no"


def test_counts_and_durations_read_well() -> None:
    states = [State.FINISHED, State.FINISHED, State.STALE]
    assert count_states(states) == "3 runs: 2 finished, 1 stale"
    assert [duration(s) for s in (4.4, 120, 7200)] == ["4 s", "2 min", "2.0 h"]
