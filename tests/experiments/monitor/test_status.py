"""Status from files alone: what it says of every state, of old files, and of thousands of runs."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.errors import UserError
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.monitor.commands import states_named, status, watch_status
from experiments.monitor.dry_run import dry_run
from experiments.monitor.status import RunStatus, run_status, statuses
from experiments.monitor.status_table import status_note, status_text
from experiments.store.attempt_records import record_failure, record_pause, record_start
from experiments.store.lease import held
from experiments.store.ledger import Ledger
from experiments.worker import result as outcome
from results.reading.location import location
from results.reading.metrics_log import read_attempts
from results.reading.run_folder import RunFolder, State
from tests.builders import PROVENANCE, make_result

#: What the trainer says of an attempt: two GPUs, 64 clips a step.
WHERE = {"host": "gpu7", "device": "NVIDIA A100-SXM4-80GB", "workers": 2, "global_batch": 64}


def attempt(
    first: int, last: int, begin: float, where: dict[str, Any] = WHERE
) -> list[dict[str, Any]]:
    """Records of steps `first`+1 to `last`: a second each, 10 an epoch, validated in 5 more."""
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


def test_a_running_run_says_where_how_far_how_fast_and_how_long(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 25, begin=1000.0))
    with held(folder.path) as lease:
        status = run_status(folder)
        assert lease.number == 1
    assert (status.state, status.epoch, status.epochs, status.step) == (State.RUNNING, 3, 4, 25)
    assert (status.device, status.workers) == (WHERE["device"], 2)
    assert status.node not in (None, "gpu7"), "the lease's host, not that of an attempt before"
    assert status.top1 == 20.0, "the last validation, although epoch 2 had none"
    assert status.clips_per_second == 64.0, "the 10 seconds of validation do not count"
    assert status.seconds_left == pytest.approx(15 * 35 / 25), "here they do"
    assert status.gpu_hours == pytest.approx(2 * 35 / 3600)
    assert (status.attempts, status.since) == (1, 1000.0)


def test_a_run_in_its_final_tests_says_so(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 40, begin=1000.0))
    with held(folder.path):
        status = run_status(folder)
    assert (status.seconds_left, status_note(status)) == (None, "trained; in its final tests")


def test_attempts_are_summed_and_the_last_one_is_shown(folder: RunFolder) -> None:
    slow = {**WHERE, "host": "gpu9", "workers": 1, "global_batch": 32}
    write_metrics(folder, attempt(0, 20, begin=1000.0), attempt(20, 24, begin=9000.0, where=slow))
    record_failure(folder, "RuntimeError", "RuntimeError: out of memory\nmore", "trace")
    status = run_status(folder)
    assert (status.state, status.attempts, status.node) == (State.FAILED, 2, "gpu9")
    assert status.gpu_hours == pytest.approx((2 * 30 + 1 * 4) / 3600)
    assert status.clips_per_second == 32.0
    assert status.error == "RuntimeError: out of memory\nmore"
    assert status.log == str(folder.log)
    assert status.since == pytest.approx(time.time(), abs=60)
    assert status.seconds_left is None, "nobody is at it"


def test_a_result_counts_the_gpu_hours_of_all_attempts(folder: RunFolder) -> None:
    assert outcome._attempts(folder, 0.5)["gpu_hours"] == 0.5
    write_metrics(folder, attempt(0, 20, begin=1000.0), attempt(20, 24, begin=9000.0))
    kept = outcome._attempts(folder, 0.5)  # of the last one, with its final tests
    assert kept["gpu_hours"] == pytest.approx(0.5 + 2 * 30 / 3600)
    assert kept["attempts"] == 2


def test_a_run_that_fails_before_it_trains_has_attempts_too(folder: RunFolder) -> None:
    for _ in range(3):
        record_failure(folder, "MissingData", "no videos", "trace")
    assert (run_status(folder).attempts, run_status(folder).epochs) == (3, None)


def test_a_cpu_costs_no_gpu_hours(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 5, begin=0.0, where={**WHERE, "device": "cpu"}))
    assert run_status(folder).gpu_hours == 0.0


def test_a_stale_run_says_since_when(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 12, begin=1000.0))
    status = run_status(folder)
    assert (status.state, status.since, status.node) == (State.STALE, 1017.0, "gpu7")
    assert status.as_json()["since"] == "1970-01-01T00:16:57+00:00"


def test_files_of_before_tell_what_they_can(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 25, begin=0.0, where={}))
    status = run_status(folder)
    assert (status.epoch, status.top1, status.attempts) == (3, 20.0, 1)
    assert (status.node, status.device, status.gpu_hours, status.clips_per_second) == (None,) * 4


def test_half_written_and_cut_lines_do_no_harm(folder: RunFolder) -> None:
    records = attempt(0, 25, begin=0.0)
    lines = [json.dumps(record) for record in records]
    lines[5] = lines[5][:20] + lines[6]  # a full disk: the rest of a line never came
    found = read_attempts(("\n".join(lines) + '\n{"kind": "step", "ep').encode())
    assert found is not None
    assert found.step is not None
    assert (found.count, found.step["step"], found.clips_per_second) == (1, 25, 64.0)
    assert read_attempts(b"") is None
    assert read_attempts(b'{"kind": "start", "st') is None


def test_a_run_that_vanishes_while_it_is_read_was_never_there(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_metrics(folder, attempt(0, 25, begin=0.0))
    state = RunFolder.state

    def vanishing(self: RunFolder) -> State:
        found = state(self)
        shutil.rmtree(Path(self.path))
        return found

    monkeypatch.setattr(RunFolder, "state", vanishing)
    assert run_status(folder).attempts is None
    assert statuses(Ledger(location(Path(folder.path).parents[1]))) == []


@pytest.fixture
def spec() -> RunSpec:
    return expand(Grid("zero_shot", demo=True))[0]


def test_a_finished_run_is_told_by_its_result_alone(tmp_path: Path, spec: RunSpec) -> None:
    folder = Ledger(tmp_path).folder(spec.run_id)
    Path(folder.path).mkdir(parents=True)
    where = {"device": "NVIDIA H100", "world_size": 8, "gpu_hours": 12.5, "host": "n1",
             "attempts": 3, "clips_per_second": 99.5}  # fmt: skip
    result = make_result(spec, 61.5).model_copy(
        update={"provenance": PROVENANCE.model_copy(update=where)}
    )
    Path(folder.result).write_text(result.model_dump_json())
    assert run_status(folder) == RunStatus(
        run_id=spec.run_id, state=State.FINISHED, node="n1", device="NVIDIA H100", workers=8,
        epoch=1, epochs=1, clips_per_second=99.5, top1=61.5, gpu_hours=12.5, attempts=3,
        since=1767225660.0,
    )  # fmt: skip


def test_a_real_run_leaves_what_its_status_says(again: tuple[Path, RunSpec]) -> None:
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
    assert stale.since <= done.since + 1, "to a second: results are dated in whole ones"


def test_a_result_that_is_damaged_is_no_result(tmp_path: Path, spec: RunSpec) -> None:
    folder = Ledger(tmp_path).folder(spec.run_id)
    Path(folder.path).mkdir(parents=True)
    text = make_result(spec).model_dump_json()
    Path(folder.result).write_text(text)
    assert folder.state() is State.FINISHED
    Path(folder.result).write_text(text[:-1])
    assert folder.state() is State.STALE, "cut by a byte"
    Path(folder.result).write_text(text.replace('"protocol"', '"protocal"'))
    assert folder.state() is State.STALE, "as long as before, and not valid"


def test_a_result_that_cannot_be_read_stops_no_look_at_the_others(
    tmp_path: Path,
) -> None:
    specs = expand(Grid("zero_shot", demo=True, models=("clip",), seeds=(0, 1)))
    ledger = Ledger(tmp_path / "out")
    for one in specs:
        Path(ledger.folder(one.run_id).path).mkdir(parents=True)
        Path(ledger.folder(one.run_id).result).write_text(make_result(one).model_dump_json())
    Path(ledger.folder(specs[0].run_id).result).unlink()
    Path(ledger.folder(specs[0].run_id).result).mkdir()
    rows = {row.run_id: row for row in status(ledger.out)}
    assert [rows[one.run_id].state for one in specs] == [State.STALE, State.FINISHED]
    assert "Is a directory" in (rows[specs[0].run_id].error or "")
    planned = dry_run(specs, ledger.out, lambda one: None)
    assert [row.state for row in planned] == [State.STALE, State.FINISHED]


@pytest.mark.parametrize(
    "wrong", [{"time": 1e999}, {"step": 1e999}, {"time": 1e30}, {"time": 1e18}]
)
def test_times_and_steps_that_are_none_are_left_out(
    folder: RunFolder, wrong: dict[str, float]
) -> None:
    records = attempt(0, 12, begin=1000.0)
    write_metrics(folder, [*records, {**records[-1], **wrong}])
    row = run_status(folder)
    assert (row.state, row.step) == (State.STALE, 12)
    assert row.as_json()["since"] == "1970-01-01T00:16:57+00:00"


@pytest.mark.parametrize("beat", [1e30, 1e18, float("nan")])
def test_a_heartbeat_that_is_no_time_is_no_sign_of_life(folder: RunFolder, beat: float) -> None:
    with held(folder.path) as lease:
        lease.stop()
        (file,) = Path(folder.path).glob("lease-*")
        file.write_text(json.dumps({**json.loads(file.read_text()), "heartbeat": beat}))
        row = run_status(folder)
    assert (row.state, row.since) == (State.STALE, None)
    row.as_json()


def test_a_failure_that_was_cut_short_is_named(folder: RunFolder) -> None:
    record_failure(folder, "Boom", "boom", "trace")
    Path(folder.failure).write_text(Path(folder.failure).read_text()[:30])
    row = run_status(folder)
    assert row.state is State.FAILED
    assert row.error == f"{folder.failure} is damaged; see {folder.log}"


def test_watching_ends_with_what_keeps_it_from_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("experiments.monitor.display.statuses", broken)
    monkeypatch.setattr("experiments.monitor.display.REFRESH_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        watch_status(tmp_path, Console(), None, None)


def test_runs_are_chosen_by_protocol_and_state(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for protocol in ("zero_shot", "few_shot"):
        record_failure(ledger.folder(f"{protocol}-a-0"), "E", "m", "t")
        write_metrics(ledger.folder(f"{protocol}-b-1"), attempt(0, 3, begin=0.0))
    assert [row.run_id for row in status(tmp_path, "few_shot")] == ["few_shot-a-0", "few_shot-b-1"]
    failed = status(tmp_path, "few_shot", states_named("failed, running"))
    assert [row.run_id for row in failed] == ["few_shot-a-0"]
    with pytest.raises(UserError, match="--state 'fialed'; known: planned, running"):
        states_named("fialed")


def test_a_paused_run_is_not_a_stale_one_and_goes_on(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 12, begin=1000.0))
    record_failure(folder, "Boom", "Boom", "trace")
    record_start(folder)
    record_pause(folder, "paused after step 12")
    paused = run_status(folder)
    assert (paused.state, paused.error, paused.step) == (State.PAUSED, None, 12)
    assert status_note(paused) == ""
    record_start(folder)
    assert run_status(folder).state is State.STALE


def test_a_paused_run_whose_next_attempt_never_began_has_failed(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 12, begin=1000.0))
    record_pause(folder, "paused after step 12")
    record_failure(folder, "WorkerDied", "rank 0 is gone", "")
    failed = run_status(folder)
    assert (failed.state, failed.error) == (State.FAILED, "rank 0 is gone")


def test_the_error_of_an_earlier_attempt_is_not_how_a_killed_run_stands(folder: RunFolder) -> None:
    write_metrics(folder, attempt(0, 12, begin=1000.0))
    record_failure(folder, "Boom", "Boom", "trace")
    assert run_status(folder).state is State.FAILED
    record_start(folder)
    stale = run_status(folder)
    assert (stale.state, stale.error, stale.since) == (State.STALE, None, 1017.0)
    assert record_failure(folder, "Boom", "again", "trace").attempt == 2, "and it still counts"
    assert (run_status(folder).state, run_status(folder).error) == (State.FAILED, "again")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_result_is_told(folder: RunFolder, text: str) -> None:
    write_metrics(folder, attempt(0, 12, begin=1000.0))
    assert run_status(folder).error is None
    Path(folder.result).write_text(text)
    damaged = run_status(folder)
    assert damaged.state is State.STALE
    assert "result.json is damaged or cut short; the same sweep" in str(damaged.error)


def test_a_smaller_batch_is_shown_and_is_no_failed_attempt(folder: RunFolder) -> None:
    memory = {"kind": "memory", "setting": "micro_batch", "before": 16, "after": 8,
              "cause": "out of memory", "step": 10, "time": 5000.5}  # fmt: skip
    write_metrics(folder, attempt(0, 10, begin=1000.0), attempt(10, 12, begin=5000.0))
    with Path(folder.metrics).open("a") as file:
        file.write(json.dumps(memory) + "\n")
    with held(folder.path):
        running = run_status(folder)
    assert running.attempts == 1
    assert status_note(running) == "ran out of memory, continues with micro_batch 8 instead of 16"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", '{"kind": "start", "epochs": 3}\n'),
        ("metrics.jsonl", '{"kind": "start", "step": 0, "time": 1.5}\n[1, 2]\n'),
        ("metrics.jsonl", '{"kind": "start", "step": 0, "time": 1.5, "device": "a",'
         ' "workers": "b"}\n'),
        ("lease-000001.json", '{"owner": "o", "number": 1, "host": "h", "place": "p", "pid": 3,'
         ' "started": 1, "beat": 1, "heartbeat": "yesterday"}'),
        ("lease-000001.json", "[]"),
        ("failure.json", '{"run_id": "x", "error": "e", "message": "m", "traceback": "",'
         ' "attempt": 1, "time": "yesterday"}'),
        ("failure.json", "[]"),
        ("paused.json", ""),
    ],
)  # fmt: skip
def test_records_that_are_not_ours_are_one_rows_trouble(
    folder: RunFolder, name: str, text: str
) -> None:
    Path(folder.path).mkdir(parents=True)
    (Path(folder.path) / name).write_text(text)
    row = run_status(folder)
    assert row.state is not State.FINISHED
    assert status_text([row], 80)


def test_a_folder_in_place_of_a_file_is_one_rows_trouble(folder: RunFolder) -> None:
    Path(folder.metrics).mkdir(parents=True)
    row = run_status(folder)
    assert row.error is not None and str(folder.path) in row.error
