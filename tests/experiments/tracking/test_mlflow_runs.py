"""Copies of runs in MLflow: one a history, whoever makes it and however often."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from experiments.errors import StorageError, UserError
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.store.attempt_records import record_failure
from experiments.store.lease import held
from experiments.store.ledger import Ledger
from experiments.store.rerun import back_up
from experiments.tracking import Mirror, default_uri, ui
from experiments.tracking import sqlite_file as database
from experiments.tracking.mlflow_runs import _tags
from experiments.tracking.sqlite_file import sqlite_file, sqlite_uri
from tests.experiments.sweeping import small_specs
from tests.experiments.tracking.mirrored import children, has_all, stopped_short

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own


def test_a_run_without_overrides_has_no_tag_for_them() -> None:
    (plain,) = expand(Grid("zero_shot"))
    assert "overrides" not in _tags(plain)


def test_a_run_of_another_folder_with_the_same_tracker_is_left_alone(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    stopped_short(out, spec)
    with held(Ledger(out).folder(spec.run_id).path):
        mirror = Mirror(Ledger(out), default_uri(out))
        mirror.sync([spec])
        Mirror(Ledger(tmp_path / "elsewhere"), default_uri(out)).settle()
        (run,) = children(mirror, spec)
    assert run.info.status == "RUNNING"


def superseded(mirror: Mirror, spec: RunSpec) -> list[bool]:
    return ["tcclip.superseded" in run.data.tags for run in children(mirror, spec)]


def test_a_creation_that_is_repeated_leaves_one_copy(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    create = mirror.client.create_run

    def twice(*arguments: Any, **named: Any) -> Any:
        create(*arguments, **named)  # its answer came too late
        return create(*arguments, **named)

    monkeypatch.setattr(mirror.client, "create_run", twice)
    mirror.sync([spec])
    has_all(mirror, spec)
    experiment = mirror.client.get_experiment_by_name("zero_shot (demo)")
    (_,) = mirror.client.search_runs([experiment.experiment_id], "tags.`tcclip.sweep` != ''")


def test_copies_that_are_there_twice_become_one(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    tags = {name: value for name, value in run.data.tags.items() if name != "tcclip.synced"}
    mirror.client.create_run(run.info.experiment_id, start_time=0, tags=tags)
    Mirror(Ledger(out), default_uri(out)).sync([spec])
    has_all(mirror, spec)
    assert [one.info.run_id for one in children(mirror, spec)] == [run.info.run_id]


def test_the_same_run_in_two_folders_has_two_copies(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    other = tmp_path / "other"
    shutil.copytree(out, other)
    metrics = Ledger(other).folder(spec.run_id).metrics
    assert isinstance(metrics, Path)
    metrics.write_text(metrics.read_text().replace('"time": 1', '"time": 2'))
    for _ in range(2):
        for folder in (out, other):
            mirror = Mirror(Ledger(folder), default_uri(out))
            mirror.sync([spec])
            mirror.settle()
            (link,) = mirror.links([spec]).values()
    assert superseded(mirror, spec) == [False, False]
    assert {run.data.tags["tcclip.output"] for run in children(mirror, spec)} == {
        str(out), str(other)
    }  # fmt: skip
    (mine,) = (run for run in children(mirror, spec) if mirror.copies.is_ours(run))
    assert link.endswith(mine.info.run_id)


def test_a_folder_that_is_moved_keeps_its_copies(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    stopped_short(out, spec)
    uri = sqlite_uri(tmp_path / "mlflow.db")
    Mirror(Ledger(out), uri).sync([spec])
    out.rename(tmp_path / "moved")
    mirror = Mirror(Ledger(tmp_path / "moved"), uri)
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert run.data.tags["tcclip.output"] == str(tmp_path / "moved")
    assert len(mirror.links([spec])) == 1


@pytest.mark.parametrize("copied", [True, False])
def test_a_folder_with_its_database_takes_its_artifacts_along(
    again: tuple[Path, RunSpec], tmp_path: Path, copied: bool
) -> None:
    """MLflow keeps absolute addresses: what is new went into the folder of before."""
    out, spec = again
    result = Path(Ledger(out).folder(spec.run_id).result)
    text = result.read_text()
    stopped_short(out, spec)
    Mirror(Ledger(out), default_uri(out)).sync([spec])
    moved = tmp_path / "moved, 100 %"
    if copied:
        shutil.copytree(out, moved)
    else:
        out.rename(moved)
    before = sorted(out.rglob("*"))
    Path(Ledger(moved).folder(spec.run_id).result).write_text(text)
    utils._artifact_repos_cache.clear()  # as in another process
    mirror = Mirror(Ledger(moved), default_uri(moved))
    mirror.sync([spec])
    has_all(mirror, spec)
    (run,) = children(mirror, spec)
    assert run.info.artifact_uri.startswith((moved / "mlflow-artifacts").as_uri() + "/")
    found = {file.path for file in mirror.client.list_artifacts(run.info.run_id)}
    assert {"spec.json", "result.json"} <= found, "what was there, and what is new"
    assert sorted(out.rglob("*")) == before, "nothing goes to where it was"
    mirror.report(spec, Path(Ledger(moved).folder(spec.run_id).path) / "predictions")
    assert sorted(out.rglob("*")) == before
    if copied:  # and the first one is a folder of its own
        first = Mirror(Ledger(out), default_uri(out))
        assert len(first.links([spec])) == 1


def test_a_database_moved_without_its_artifacts_still_leads_to_them(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    Mirror(Ledger(out), default_uri(out)).sync([spec])
    (tmp_path / "other disk").mkdir()
    (out / "mlflow.db").rename(tmp_path / "other disk" / "mlflow.db")
    utils._artifact_repos_cache.clear()
    mirror = Mirror(Ledger(out), sqlite_uri(tmp_path / "other disk" / "mlflow.db"))
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert {file.path for file in mirror.client.list_artifacts(run.info.run_id)} >= {"result.json"}
    assert run.data.tags["tcclip.output"] == str(out)


def test_a_folder_has_one_copy_under_all_its_names(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    stopped_short(out, spec)
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    (tmp_path / "link").symlink_to(out)
    (run,) = children(mirror, spec)
    mirror.client.set_tag(run.info.run_id, "tcclip.output", str(tmp_path / "link"))
    mirror = Mirror(Ledger(tmp_path / "link"), default_uri(out))
    mirror.sync([spec])
    (same,) = children(mirror, spec)
    assert same.info.run_id == run.info.run_id
    assert same.data.tags["tcclip.output"] == str(out)


def test_artifacts_go_to_the_folder_whoever_has_it_under_another_path(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.copies.experiment(spec)
    database = sqlite3.connect(out / "mlflow.db")
    there = (tmp_path / "host" / "mlflow-artifacts").as_uri()
    database.execute("UPDATE experiments SET artifact_location = ?", (there,))
    database.commit()  # as its UI on the host does
    database.close()
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    assert {file.path for file in mirror.client.list_artifacts(run.info.run_id)} >= {"result.json"}
    assert not (tmp_path / "host").exists()


def test_a_run_at_work_elsewhere_keeps_its_copy_from_who_has_a_duplicate(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    stopped_short(out, spec)
    uri = sqlite_uri(tmp_path / "mlflow.db")
    cluster = tmp_path / "cluster"
    out.rename(cluster)
    with held(Ledger(cluster).folder(spec.run_id).path):
        (lease,) = Path(Ledger(cluster).folder(spec.run_id).path).glob("lease-*")
        lease.write_text(json.dumps({**json.loads(lease.read_text()), "host": "gpu7"}))
        first = Mirror(Ledger(cluster), uri)
        first.sync([spec])
        laptop = tmp_path / "laptop"
        shutil.copytree(cluster, laptop)
        cluster.rename(tmp_path / "not seen from the laptop")
        second = Mirror(Ledger(laptop), uri)
        second.sync([spec])
        second.settle()
    (run,) = (one for one in children(first, spec) if first.copies.is_ours(one))
    assert run.info.status == "RUNNING"
    assert run.data.tags["tcclip.output"] == str(cluster)
    assert len(second.links([spec])) == 1


def test_a_database_of_others_keeps_their_addresses(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    uri = sqlite_uri(tmp_path / "shared.db")
    client = MlflowClient(uri)
    client.create_experiment("theirs", artifact_location="s3://their/mlflow-artifacts")
    client.create_experiment("zero_shot (demo)", artifact_location="s3://chosen/by-hand")
    mirror = Mirror(Ledger(out), uri)
    found = {one.name: one.artifact_location for one in client.search_experiments()}
    assert found["theirs"] == "s3://their/mlflow-artifacts"
    assert found["zero_shot (demo)"] == "s3://chosen/by-hand"
    client.rename_experiment(
        client.get_experiment_by_name("zero_shot (demo)").experiment_id, "another"
    )
    mirror.sync([spec])
    made = client.get_experiment_by_name("zero_shot (demo)")
    assert made.artifact_location == (tmp_path / "mlflow-artifacts").as_uri()


@pytest.mark.parametrize("same_process", [True, False])
def test_a_run_that_is_begun_again_does_not_go_on_in_the_old_copy(
    again: tuple[Path, RunSpec], same_process: bool
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    lines = folder.metrics.read_text()  # type: ignore[union-attr]
    stopped_short(out, spec)
    first = Mirror(Ledger(out), default_uri(out))
    first.sync([spec])
    back_up(Ledger(out), [spec.run_id], [])
    Ledger(out).add([spec])
    short = "".join(lines.splitlines(keepends=True)[:15]).replace('"time": 1', '"time": 2')
    folder.metrics.write_text(short)  # type: ignore[union-attr]
    mirror = first if same_process else Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    old, new = sorted(children(mirror, spec), key=lambda run: run.info.start_time)
    assert ("tcclip.superseded" in old.data.tags, "tcclip.superseded" in new.data.tags) == (
        True, False
    )  # fmt: skip
    steps = [len(mirror.client.get_metric_history(run.info.run_id, "loss")) for run in (old, new)]
    assert steps == [24, 13]


def test_a_run_that_begins_after_its_first_failure_stays_one_copy(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    assert isinstance(folder.metrics, Path) and isinstance(folder.result, Path)
    lines, result = folder.metrics.read_bytes(), folder.result.read_bytes()
    folder.metrics.unlink()
    folder.result.unlink()
    record_failure(folder, "Boom", "Boom: before it began", "trace")
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    folder.metrics.write_bytes(lines)
    folder.result.write_bytes(result)
    mirror.sync([spec])
    has_all(mirror, spec)
    (run,) = children(mirror, spec)
    assert run.data.tags["tcclip.begun"]


def test_an_experiment_that_was_deleted_comes_back(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    experiment = mirror.client.get_experiment_by_name("zero_shot (demo)")
    mirror.client.delete_experiment(experiment.experiment_id)
    (other,) = small_specs(train__lr=1e-4)
    Ledger(out).add([other])
    record_failure(Ledger(out).folder(other.run_id), "Boom", "Boom", "trace")
    mirror.sync([other])
    has_all(mirror, spec)
    assert len(children(mirror, other)) == 1


def test_finished_runs_that_a_killed_sweep_left_running_are_copied(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    assert isinstance(folder.result, Path)
    result = folder.result.read_bytes()
    stopped_short(out, spec)
    with held(folder.path):
        Mirror(Ledger(out), default_uri(out)).sync([spec])
    folder.result.write_bytes(result)
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.settle()
    has_all(mirror, spec)


def test_copies_are_made_by_one_process_at_a_time(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    mirror, other = (Mirror(Ledger(out), default_uri(out)) for _ in range(2))
    other.copies.turn.take()
    mirror.sync([spec])
    assert mirror.client.get_experiment_by_name("zero_shot (demo)") is not None
    assert children(mirror, spec) == []
    with pytest.raises(TimeoutError, match="another process makes copies"):
        mirror.sync([spec], wait=0.6)
    threading.Timer(0.6, other.copies.turn.end).start()
    mirror.sync([spec], wait=30)
    has_all(mirror, spec)
    assert not (out / "mlflow-turn").exists()


def test_runs_that_may_only_be_read_are_copied(
    again: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    (out / "mlflow-turn").write_text("a file where a folder should be")
    mirror = Mirror(Ledger(out), sqlite_uri(tmp_path / "mine.db"))
    mirror.sync([spec])
    has_all(mirror, spec)


# ---- The database ----


def test_processes_that_begin_at_once_make_one_whole_database(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from experiments.store.ledger import Ledger\n"
        "from experiments.tracking import Mirror, default_uri\n"
        "from tests.experiments.sweeping import small_specs\n"
        "out, (spec,) = Path(sys.argv[1]), small_specs()\n"
        "mirror = Mirror(Ledger(out), default_uri(out))\n"
        "from experiments.store.attempt_records import record_failure\n"
        "Ledger(out).add([spec])\n"
        "record_failure(Ledger(out).folder(spec.run_id), 'Boom', 'Boom', '')\n"
        "mirror.sync([spec], wait=30)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    (spec,) = small_specs()
    mirror = Mirror(Ledger(tmp_path / "out"), default_uri(tmp_path / "out"))
    mirror.sync([spec])
    assert len(children(mirror, spec)) == 1
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"runs", "mlflow.db", "mlflow-artifacts"}


def test_a_database_that_is_not_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: database.SqliteFile, uri: str) -> None:
        sqlite3.connect(sqlite_file(uri) or "").execute(
            "CREATE TABLE half (made)"
        ).connection.close()
        raise StorageError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(database.SqliteFile, "_connect", cut)
        with pytest.raises(StorageError):
            Mirror(Ledger(tmp_path), default_uri(tmp_path))
    assert list(tmp_path.iterdir()) == []
    Mirror(Ledger(tmp_path), default_uri(tmp_path)).client.search_experiments()


def test_a_database_removed_under_a_sweep_is_made_and_filled_again(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    (out / "mlflow.db").unlink()
    mirror.sync([spec])
    has_all(mirror, spec)
    connection = sqlite3.connect(out / "mlflow.db")
    (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    connection.close()
    assert runs == 2, "the run and its sweep are in the file, not in the one that is gone"


def test_a_relative_database_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///my runs.db")
    uri = default_uri(tmp_path / "out")
    assert sqlite_file(uri) == tmp_path / "my runs.db"
    Mirror(Ledger(tmp_path / "out"), uri)
    assert (tmp_path / "my runs.db").exists()


def test_a_server_has_a_ui_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:se/cr@et@mlflow.example:8443")
    with pytest.raises(UserError, match=r"mlflow\.example:8443") as raised:
        ui.serve_ui(tmp_path, host="127.0.0.1", port=5000)
    assert "cr@et" not in str(raised.value) and "ann" not in str(raised.value)
