"""MLflow as a view of the run folders: complete, made once, and never in the way."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.ledger import Ledger
from experiments.spec import RunSpec
from experiments.tracking import Follower, Mirror, default_uri
from tests.experiments.sweeping import small_specs

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own


def children(mirror: Mirror, spec: RunSpec) -> list[Any]:
    experiment = mirror.client.get_experiment_by_name("zero_shot (demo)")
    query = f"tags.`tcclip.run_id` = '{spec.run_id}'"
    return list(mirror.client.search_runs([experiment.experiment_id], query))


def test_a_finished_run_is_there_once_with_everything(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    ledger = Ledger(out)
    for _ in range(2):  # a second process finds the copy, and adds nothing
        mirror = Mirror(ledger, default_uri(out))
        mirror.sync([spec])
        mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags["protocol"], tags["model"], tags["seed"]) == ("zero_shot", "tc_clip", "0")
    assert tags["mlflow.parentRunId"]
    assert run.data.params["train.epochs"] == "2"
    history = mirror.client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(1, 25))
    assert len(mirror.client.get_metric_history(run.info.run_id, "epoch/val_top1")) == 2
    result = ledger.folder(spec.run_id).read_result()
    assert result is not None
    final = {k: v for k, v in run.data.metrics.items() if k.startswith("final/")}
    assert len(final) == len(result.measurements) == 3 * 2 * 2 * 2
    one = result.measurements[0]
    name = f"final/{one.suite}/{one.split}/{one.metric}/{one.checkpoint}-{one.weights}-{one.views}"
    assert final[name] == one.value
    files = {file.path for file in mirror.client.list_artifacts(run.info.run_id)}
    assert files == {"spec.json", "result.json", "run.log"}
    assert len(run.inputs.dataset_inputs) == 5, "train, val and three unseen lists"


def test_a_run_that_grows_is_followed_without_repeats(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    folder.result.unlink()
    lines = folder.metrics.read_text().splitlines(keepends=True)
    mirror = Mirror(Ledger(out), default_uri(out))
    folder.metrics.write_text("".join(lines[:15]) + lines[15][:10])
    mirror.sync([spec])
    # Cut back to the last checkpoint by a resumed run, then grown again.
    folder.metrics.write_text("".join(lines[:13]))
    Mirror(Ledger(out), default_uri(out)).sync([spec])
    folder.metrics.write_text("".join(lines))
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert run.info.status == "KILLED", "nobody works on it"
    for name, steps in (("loss", list(range(1, 25))), ("epoch/loss", [12, 24])):
        history = mirror.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == steps


def test_a_tracker_that_is_down_is_said_once_and_costs_nothing(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    said: list[str] = []
    monkeypatch.setattr("experiments.tracking.SYNC_SECONDS", 0.05)
    uri = f"sqlite:///{out}/no/such/folder/mlflow.db"
    (out / "no").write_text("a file where a folder should be")
    with Follower(Ledger(out), uri, [spec], said.append):
        time.sleep(0.5)
    assert len(said) == 1
    assert "tcclip ui --sync" in said[0]


def test_reports_are_kept_with_the_sweep(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    (out / "report").mkdir()
    (out / "report" / "zero_shot.md").write_text("| a table |")
    mirror.report(spec, out / "report")
    (link,) = mirror.links([spec]).values()
    (run,) = children(mirror, spec)
    assert link.endswith(f"/runs/{run.info.run_id}")
    experiment = mirror.client.get_experiment_by_name("zero_shot (demo)")
    (parent,) = mirror.client.search_runs([experiment.experiment_id], "tags.`tcclip.sweep` != ''")
    files = mirror.client.list_artifacts(parent.info.run_id, "report")
    assert [file.path for file in files] == ["report/zero_shot.md"]


def test_following_leaves_no_thread_behind(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    with Follower(Ledger(out), default_uri(out), [spec], print):
        pass
    assert "mlflow" not in {thread.name for thread in threading.enumerate()}
    (run,) = children(Mirror(Ledger(out), default_uri(out)), spec)
    assert run.info.status == "FINISHED", "the last look comes after the sweep's end"


def test_specs_have_parameters_mlflow_takes() -> None:
    from experiments.overrides import flat

    names = [name for name, _ in flat(small_specs()[0].model_dump(mode="json"))]
    assert len(names) == len(set(names))


def test_a_call_that_failed_leaves_no_hole(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    with monkeypatch.context() as patch:
        patch.setattr(mirror.client, "log_batch", _unreachable)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                mirror.sync([spec])
    mirror.sync([spec])
    _has_all(mirror, spec)


def test_a_run_that_ends_while_its_records_are_sent_leaves_no_hole(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    lines, result = folder.metrics.read_bytes(), folder.result.read_bytes()
    folder.result.unlink()
    folder.metrics.write_bytes(b"".join(lines.splitlines(keepends=True)[:15]))
    mirror = Mirror(Ledger(out), default_uri(out))
    send = mirror.client.log_batch

    def slow(*arguments: Any, **named: Any) -> None:
        send(*arguments, **named)
        if named.get("metrics"):
            folder.metrics.write_bytes(lines)
            folder.result.write_bytes(result)

    with monkeypatch.context() as patch:
        patch.setattr(mirror.client, "log_batch", slow)
        mirror.sync([spec])
    mirror.sync([spec])
    _has_all(mirror, spec)


def _unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError("the server is down")


def _has_all(mirror: Mirror, spec: RunSpec) -> None:
    (run,) = children(mirror, spec)
    assert run.info.status == "FINISHED"
    for name, steps in (("loss", list(range(1, 25))), ("epoch/loss", [12, 24])):
        history = mirror.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == steps
