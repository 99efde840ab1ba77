"""What `status` says of a run, from its files alone."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import UserError
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.monitor.display import status, statuses
from experiments.monitor.dry_run import dry_run
from experiments.monitor.status_table import status_note, status_text
from experiments.store.attempt_records import record_failure, record_pause, record_start
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from experiments.worker import result as outcome
from results.reading.run_folder import RunFolder, State
from results.reading.status import RunStatus, run_status
from tcclip.config import Execution
from tests.builders import PROVENANCE, make_result

#: Of an attempt: two GPUs, 64 clips a step.
WHERE = {"host": "gpu7", "device": "NVIDIA A100-SXM4-80GB", "workers": 2, "global_batch": 64}


def attempt(
    first: int, last: int, begin: float, where: dict[str, Any] = WHERE
) -> list[dict[str, Any]]:
    """Records of steps `first`+1 to `last`: one second each, 10 an epoch, validation takes 5 s."""
    records = [
        {"kind": "start", "step": first, "epochs": 4, "total_steps": 40, **where, "time": begin}
    ]
    now = begin
    for step in range(first + 1, last + 1):
        epoch, now = (step - 1) // 10 + 1, now + 1
        records.append(
            {"kind": "step", "epoch": epoch, "step": step, "loss": 1 / step, "time": now}
        )
        if step % 10 == 0:
            took, now = min(10, step - first), now + 5
            top1 = {"top1": 10.0 + step} if epoch % 2 else {}
            records.append({"kind": "epoch", "epoch": epoch, "step": step, "loss": 0.5,
                            "train_seconds": took, **top1, "time": now})  # fmt: skip
    return records


def write_metrics(folder: RunFolder, *attempts: list[dict[str, Any]]) -> None:
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) + "\n" for records in attempts for record in records]
    Path(folder.metrics).write_text("".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return Ledger(tmp_path).folder("zero_shot-k400-tc_clip-base-s0-0123456789")


@pytest.fixture
def spec() -> RunSpec:
    return expand(Grid("zero_shot", demo=True))[0]


# ---- Running ----


def test_a_running_run(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 25, begin=1000.0))
    with claim(folder.path):
        status = run_status(folder)
    assert (status.state, status.epoch, status.epochs, status.step) == (State.RUNNING, 3, 4, 25)
    assert (status.device, status.workers) == (WHERE["device"], 2)
    assert status.node not in (None, "gpu7"), "the lease's host, not that of an earlier attempt"
    assert status.top1 == 20.0, "the last validation, although epoch 2 had none"
    assert status.clips_per_second == 64.0, "without the 10 seconds of validation"
    assert status.seconds_left == pytest.approx(15 * 35 / 25), "with them"
    assert status.gpu_hours == pytest.approx(2 * 35 / 3600)
    assert (status.attempts, status.since) == (1, 1000.0)


def test_a_run_in_its_final_tests(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 40, begin=1000.0))
    with claim(folder.path):
        status = run_status(folder)
    assert (status.seconds_left, status_note(status)) == (None, "trained; in its final tests")


def test_a_smaller_batch_is_shown_and_is_no_failed_attempt(folder: RunFolder) -> None:
    memory = {"kind": "memory", "setting": "micro_batch", "before": 16, "after": 8,
              "cause": "out of memory", "step": 10, "time": 5000.5}  # fmt: skip
    records = attempt(10, 12, begin=5000.0)
    write_metrics(folder, attempt(0, 10, begin=1000.0), [*records, memory])
    with claim(folder.path):
        running = run_status(folder)
    assert running.attempts == 1
    assert status_note(running) == "ran out of memory, continues with micro_batch 8 instead of 16"


# ---- Failed, stale, paused ----


def test_attempts_are_summed_and_the_last_one_is_shown(folder: RunFolder) -> None:
    slow = {**WHERE, "host": "gpu9", "workers": 1, "gpus": 0.25, "global_batch": 32}
    write_metrics(folder, attempt(0, 20, begin=1000.0), attempt(20, 24, begin=9000.0, where=slow))
    record_failure(folder, "RuntimeError", "RuntimeError: out of memory\nmore", "trace")
    status = run_status(folder)
    assert (status.state, status.attempts, status.node) == (State.FAILED, 2, "gpu9")
    assert status.gpu_hours == pytest.approx((2 * 30 + 0.25 * 4) / 3600)
    assert status.clips_per_second == 32.0
    assert (status.error, status.log) == ("RuntimeError: out of memory\nmore", str(folder.log))
    assert status.since == pytest.approx(time.time(), abs=60)
    assert status.seconds_left is None
    in_result = outcome._attempts(folder, 0.5)  # GPU-hours of the last attempt, with its tests
    assert in_result["gpu_hours"] == pytest.approx(0.5 + 2 * 30 / 3600)
    assert in_result["attempts"] == 2


def test_attempts_that_fail_before_training_are_counted(folder: RunFolder) -> None:
    for _ in range(3):
        record_failure(folder, "MissingData", "no videos", "trace")
    assert (run_status(folder).attempts, run_status(folder).epochs) == (3, None)


def test_a_stale_run_says_since_when(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 12, begin=1000.0, where={**WHERE, "device": "cpu"}))
    status = run_status(folder)
    assert (status.state, status.since, status.node) == (State.STALE, 1017.0, "gpu7")
    assert status.as_json()["since"] == "1970-01-01T00:16:57+00:00"
    assert status.gpu_hours == 0.0


def test_paused_and_failed_follow_the_last_record(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 12, begin=1000.0))
    record_failure(folder, "Boom", "Boom", "trace")
    assert run_status(folder).state is State.FAILED
    record_start(folder)
    stale = run_status(folder)
    assert (stale.state, stale.error, stale.since) == (State.STALE, None, 1017.0)
    record_pause(folder, "paused after step 12")
    paused = run_status(folder)
    assert (paused.state, paused.error, paused.step) == (State.PAUSED, None, 12)
    assert status_note(paused) == ""
    assert record_failure(folder, "WorkerDied", "rank 0 is gone", "").attempt == 2
    failed = run_status(folder)
    assert (failed.state, failed.error) == (State.FAILED, "rank 0 is gone")


# ---- Finished ----


def write_result(folder: RunFolder, spec: RunSpec, text: str | None = None) -> None:
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    Path(folder.result).write_text(make_result(spec).model_dump_json() if text is None else text)


def test_a_finished_run_needs_its_result_alone(tmp_path: Path, spec: RunSpec) -> None:
    folder = Ledger(tmp_path).folder(spec.run_id)
    where = {"device": "NVIDIA H100", "world_size": 8, "gpu_hours": 12.5, "host": "n1",
             "attempts": 3, "clips_per_second": 99.5}  # fmt: skip
    result = make_result(spec, 61.5).model_copy(
        update={"provenance": PROVENANCE.model_copy(update=where)}
    )
    write_result(folder, spec, result.model_dump_json())
    assert run_status(folder) == RunStatus(
        run_id=spec.run_id, state=State.FINISHED, node="n1", device="NVIDIA H100", workers=8,
        epoch=1, epochs=1, clips_per_second=99.5, top1=61.5, gpu_hours=12.5, attempts=3,
        since=1767225660.0,
    )  # fmt: skip


# ---- Damaged files ----


def test_a_damaged_result_is_no_result(tmp_path: Path, spec: RunSpec) -> None:
    folder = Ledger(tmp_path).folder(spec.run_id)
    text = make_result(spec).model_dump_json()
    write_result(folder, spec, text)
    assert run_status(folder).state is State.FINISHED
    for damaged in (text[:-1], text.replace('"protocol"', '"protocal"'), "", "{", "[]"):
        write_result(folder, spec, damaged)
        row = run_status(folder)
        assert row.state is State.STALE
        assert "result.json is damaged or cut short; the same sweep" in str(row.error)


def test_a_result_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    specs = expand(Grid("zero_shot", demo=True, models=("clip",), seeds=(0, 1)))
    ledger = Ledger(tmp_path / "out")
    write_result(ledger.folder(specs[1].run_id), specs[1])
    Path(ledger.folder(specs[0].run_id).result).mkdir(parents=True)
    rows = {row.run_id: row for row in statuses(ledger)}
    assert [rows[one.run_id].state for one in specs] == [State.STALE, State.FINISHED]
    assert "Is a directory" in (rows[specs[0].run_id].error or "")
    planned = dry_run(specs, ledger.out, Execution(), lambda one: None)
    assert [row.state for row in planned] == [State.STALE, State.FINISHED]


@pytest.mark.parametrize(
    "wrong", [{"time": 1e999}, {"step": 1e999}, {"time": 1e30}, {"time": 1e18}]
)
def test_impossible_times_and_steps_are_skipped(folder: RunFolder, wrong: dict[str, float]) -> None:
    records = attempt(0, 12, begin=1000.0)
    write_metrics(folder, [*records, {**records[-1], **wrong}])
    row = run_status(folder)
    assert (row.state, row.step) == (State.STALE, 12)
    assert row.as_json()["since"] == "1970-01-01T00:16:57+00:00"


@pytest.mark.parametrize("beat", [1e30, float("nan")])
def test_an_impossible_heartbeat_is_no_sign_of_life(folder: RunFolder, beat: float) -> None:
    with claim(folder.path) as lease:
        lease.stop()
        (file,) = Path(folder.path).glob("lease-*")
        file.write_text(json.dumps({**json.loads(file.read_text()), "heartbeat": beat}))
        row = run_status(folder)
    assert (row.state, row.since) == (State.STALE, None)


def test_a_damaged_failure_record_is_named(folder: RunFolder) -> None:
    record_failure(folder, "Boom", "boom", "trace")
    Path(folder.failure).write_text(Path(folder.failure).read_text()[:30])
    row = run_status(folder)
    assert row.state is State.FAILED
    assert row.error == f"{folder.failure} is damaged; see {folder.log}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", '{"kind": "start", "epochs": 3}\n'),
        ("metrics.jsonl", '{"kind": "start", "step": 0, "time": 1.5}\n[1, 2]\n'),
        ("metrics.jsonl", '{"kind": "start", "step": 0, "time": 1.5, "device": "a",'
         ' "workers": "b"}\n'),
        ("lease-000001.json", '{"owner": "o", "number": 1, "host": "h", "place": "p", "pid": 3,'
         ' "started": 1, "beat": 1, "heartbeat": "yesterday"}'),
        ("failure.json", '{"run_id": "x", "error": "e", "message": "m", "traceback": "",'
         ' "attempt": 1, "time": "yesterday"}'),
        ("failure.json", "[]"),
        ("paused.json", ""),
    ],
)  # fmt: skip
def test_records_of_unknown_form_spoil_one_row(folder: RunFolder, name: str, text: str) -> None:
    Path(folder.path).mkdir(parents=True)
    (Path(folder.path) / name).write_text(text)
    row = run_status(folder)
    assert row.state is not State.FINISHED
    assert status_text([row], 80)


def test_a_run_that_is_deleted_while_it_is_read(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_metrics(folder, attempt(0, 25, begin=0.0))
    state = RunFolder.state

    def state_then_delete(self: RunFolder) -> State:
        found = state(self)
        shutil.rmtree(Path(self.path))
        return found

    monkeypatch.setattr(RunFolder, "state", state_then_delete)
    assert run_status(folder).attempts is None


# ---- The command ----


def test_runs_are_chosen_by_protocol_and_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(tmp_path)
    for protocol in ("zero_shot", "few_shot"):
        record_failure(ledger.folder(f"{protocol}-a-0"), "E", "m", "t")
        write_metrics(ledger.folder(f"{protocol}-b-1"), attempt(0, 3, begin=0.0))

    def run_ids(state: str | None) -> list[str]:
        status(tmp_path, "few_shot", state, watch=False, format="json")
        return [row["run_id"] for row in json.loads(capsys.readouterr().out)]

    assert run_ids(None) == ["few_shot-a-0", "few_shot-b-1"]
    assert run_ids("failed, running") == ["few_shot-a-0"]
    with pytest.raises(UserError, match="--state 'fialed'; known: planned, running"):
        run_ids("fialed")


def test_an_error_ends_watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("experiments.monitor.display.statuses", broken)
    monkeypatch.setattr("experiments.monitor.display.REFRESH_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="a bug"):
        status(tmp_path, None, None, watch=True, format="terminal")
