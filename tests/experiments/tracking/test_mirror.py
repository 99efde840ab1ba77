"""What MLflow shows of runs: everything, once, in the right state."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from experiments.errors import UserError
from experiments.grid.spec import RunSpec
from experiments.store.attempt_records import record_failure
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from experiments.tracking import Incomplete, mirror, ui
from results.reading.run_folder import RunFolder
from tests.experiments.tracking.mirrored import (
    OTHER,
    begin,
    copies,
    has_all,
    mirror_of,
    steps,
    unfinish,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own


def unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError("the server is down")


# ---- What is there ----


def test_a_finished_run_is_there_once_with_everything(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    for _ in range(2):  # a second process finds the copy, and adds nothing
        made = mirror_of(out)
        made.sync([spec.run_id])
        made.sync([spec.run_id])
    has_all(made, spec)
    (run,) = copies(made, spec)
    folder = Ledger(out).folder(spec.run_id)
    first = json.loads(Path(folder.metrics).read_text().splitlines()[0])
    assert run.info.start_time == int(first["time"] * 1000)
    assert 0 < run.info.end_time - run.info.start_time + 1000 < 600_000, "of the run, not the copy"
    assert run.data.tags["mlflow.parentRunId"]
    params = run.data.params
    assert (params["key.protocol"], params["key.seed"]) == ("zero_shot", "0")
    assert params["train.epochs"] == "2"
    assert steps(made, run, "epoch/val_top1") == [6, 12]
    result = folder.read_result()
    assert result is not None
    final = {name: value for name, value in run.data.metrics.items() if name.startswith("final/")}
    assert len(final) == len(result.measurements) == 3 * 2 * 2 * 2
    one = result.measurements[0]
    name = f"final/{one.suite}/{one.split}/{one.metric}/{one.checkpoint}-{one.weights}-{one.views}"
    assert final[name] == one.value
    assert len(run.inputs.dataset_inputs) == 5, "train, val and three unseen lists"


def test_a_run_that_grows_is_followed(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    unfinish(out, spec)
    metrics = Path(Ledger(out).folder(spec.run_id).metrics)
    lines = metrics.read_text().splitlines(keepends=True)
    made = mirror_of(out)
    metrics.write_text("".join(lines[:10]) + lines[10][:10])
    made.sync([spec.run_id])
    (run,) = copies(made, spec)
    assert steps(made, run) == list(range(1, 8))
    metrics.write_text("".join(lines))
    made.sync([spec.run_id])
    assert steps(made, run) == list(range(1, 13))
    assert steps(made, run, "epoch/loss") == [6, 12]


@pytest.mark.parametrize("same_process", [True, False])
def test_steps_that_a_resumed_run_repeats_are_there_once(
    again: tuple[Path, RunSpec], same_process: bool
) -> None:
    out, spec = again
    unfinish(out, spec)
    metrics = Path(Ledger(out).folder(spec.run_id).metrics)
    records = [json.loads(line) for line in metrics.read_text().splitlines()]

    def write(kept: list[dict[str, Any]]) -> None:
        metrics.write_text("".join(json.dumps(record) + "\n" for record in kept))

    write(records[:12])
    made = mirror_of(out)
    made.sync([spec.run_id])
    # The next attempt goes on from an earlier step: the same numbers at other times.
    restart = {**records[0], "step": 6, "time": records[0]["time"] + 100}
    write([*records[:7], restart])
    made.sync([spec.run_id])
    repeated = [{**record, "time": record["time"] + 100} for record in records[7:]]
    write([*records[:7], restart, *repeated])
    made = made if same_process else mirror_of(out)
    made.sync([spec.run_id])
    (run,) = copies(made, spec)
    assert steps(made, run) == list(range(1, 13))
    assert steps(made, run, "epoch/loss") == [6, 12]


def test_a_call_that_failed_leaves_no_gap(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    made = mirror_of(out)
    with monkeypatch.context() as patch:
        patch.setattr(made.client, "log_batch", unreachable)
        with pytest.raises(Incomplete, match=f"{spec.run_id}: ConnectionError: the server is down"):
            made.sync([spec.run_id])
    (run,) = copies(made, spec)
    assert run.data.params == {}, "the copy was left without its settings"
    made.sync([spec.run_id], last=True)
    has_all(made, spec)
    assert copies(made, spec)[0].data.params["train.epochs"] == "2"


def test_a_run_that_ends_while_its_metrics_are_sent_leaves_no_gap(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    lines, result = Path(folder.metrics).read_bytes(), unfinish(out, spec)
    Path(folder.metrics).write_bytes(b"".join(lines.splitlines(keepends=True)[:9]))
    made = mirror_of(out)
    send = made.client.log_batch

    def slow(*arguments: Any, **named: Any) -> None:
        send(*arguments, **named)
        Path(folder.metrics).write_bytes(lines)
        Path(folder.result).write_bytes(result)

    with monkeypatch.context() as patch:
        patch.setattr(made.client, "log_batch", slow)
        made.sync([spec.run_id])
    made.sync([spec.run_id])
    has_all(made, spec)


def test_reports_are_kept_with_the_sweep(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    made = mirror_of(out)
    (out / "report").mkdir()
    (out / "report" / "zero_shot.md").write_text("| a table |")
    made.report(spec, out / "report")
    assert made.links([spec]) == {}, "not copied yet"
    made.sync([spec.run_id])
    (run,) = copies(made, spec)
    assert made.links([spec])[spec.run_id].endswith(f"/runs/{run.info.run_id}")
    files = made.client.list_artifacts(run.data.tags["mlflow.parentRunId"], "report")
    assert [file.path for file in files] == ["report/zero_shot.md"]


# ---- States ----


def test_killed_runs_do_not_stay_running_and_continued_ones_run_again(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    result = unfinish(out, spec)

    def status(last: bool, *run_ids: str) -> str:
        made = mirror_of(out)
        made.sync(run_ids, last)
        (run,) = copies(made, spec)
        return str(run.info.status)

    with claim(folder.path):
        assert status(False, spec.run_id) == "RUNNING"
        assert status(True) == "RUNNING", "somebody works on it"
    assert status(True) == "KILLED", "a sweep of other runs has seen it"
    with claim(folder.path):
        assert status(False, spec.run_id) == "RUNNING"
    Path(folder.result).write_bytes(result)
    assert status(True) == "FINISHED", "a killed sweep could not copy its end"
    has_all(mirror_of(out), spec)


def test_a_failed_run_shows_its_failure_until_it_goes_on(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    first, second = mirror_of(tmp_path), mirror_of(tmp_path)
    for attempt in (1, 2):
        record_failure(folder, "Boom", f"Boom {attempt}", "trace")
        for made in (first, second):
            made.sync([OTHER.run_id])
        (run,) = copies(first, OTHER)
        assert (run.info.status, run.data.tags["tcclip.error"]) == ("FAILED", f"Boom {attempt}")
    files = {file.path for file in first.client.list_artifacts(run.info.run_id)}
    assert files == {"spec.json", "failure.json"}
    with claim(folder.path):
        for made in (first, second):  # two sweeps that follow one run
            made.sync([OTHER.run_id])
            (run,) = copies(made, OTHER)
            assert run.info.status == "RUNNING"
            assert run.data.tags["tcclip.error"] == ""


def test_what_was_sent_is_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_failure(begin(tmp_path), "Boom", "Boom", "trace")
    made = mirror_of(tmp_path)
    made.sync([OTHER.run_id])
    for name in ("set_tag", "set_terminated", "update_run", "log_artifact", "log_batch"):
        monkeypatch.setattr(made.client, name, unreachable)
    made.sync([OTHER.run_id])


def test_a_finished_run_that_was_shown_as_running_is_corrected(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    made = mirror_of(out)
    made.sync([spec.run_id])
    (run,) = copies(made, spec)
    made.client.update_run(run.info.run_id, "RUNNING")  # by another process that looked earlier
    mirror_of(out).sync([], last=True)
    (corrected,) = copies(made, spec)
    assert (corrected.info.status, corrected.info.end_time) == ("FINISHED", run.info.end_time)


# ---- One run that cannot be copied ----


def refuse_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server that takes no large files."""
    keep = MlflowClient.log_artifact

    def log_artifact(self: MlflowClient, mlflow_id: str, path: str, *rest: Any) -> None:
        if path.endswith("run.log") and Path(path).read_text() == "long":
            raise OSError("413 too large")
        keep(self, mlflow_id, path, *rest)

    monkeypatch.setattr(MlflowClient, "log_artifact", log_artifact)


def test_a_file_that_the_server_refuses_keeps_nothing_else_from_being_copied(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    folder = begin(out)
    record_failure(folder, "Boom", "Boom", "trace")
    Path(folder.log).write_text("long")
    refuse_logs(monkeypatch)
    made = mirror_of(out)
    with pytest.raises(Incomplete, match=f"{OTHER.run_id}: OSError: 413"):
        made.sync([OTHER.run_id, spec.run_id])
    with pytest.raises(Incomplete, match=f"{OTHER.run_id}: OSError: 413"):
        made.sync([OTHER.run_id, spec.run_id], last=True)
    (run,) = copies(made, OTHER)
    assert run.info.status == "FAILED"
    has_all(made, spec)


def newer_result(folder: RunFolder) -> None:
    Path(folder.result).write_text('{"schema_version": 999}')


def no_file_as_log(folder: RunFolder) -> None:
    Path(folder.log).mkdir()
    record_failure(folder, "ValueError", "why", "")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (no_file_as_log, "cannot read .*run.log"),
        (newer_result, "schema version 999"),
    ],
)
def test_a_damaged_run_is_named_and_keeps_no_other_from_being_copied(
    again: tuple[Path, RunSpec], damage: Callable[[RunFolder], None], why: str
) -> None:
    out, spec = again
    damage(begin(out))
    with pytest.raises(UserError, match=f"all others are there(?s:.*){OTHER.run_id}: .*{why}"):
        ui.sync(out)
    has_all(mirror_of(out), spec)


def test_many_damaged_runs_are_counted() -> None:
    error = mirror.Incomplete({f"run{number}": "damaged" for number in range(12)})
    assert str(error).endswith("  run9: damaged\n  and 2 more")
