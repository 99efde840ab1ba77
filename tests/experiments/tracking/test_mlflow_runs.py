"""Each run folder has one MLflow run, whoever creates it and however often."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

import cli
from experiments.errors import StorageError, UserError
from experiments.grid.spec import RunSpec
from experiments.store.attempt_records import record_failure
from experiments.store.ledger import Ledger
from experiments.store.rerun import back_up
from experiments.tracking import Mirror, default_uri, ui
from experiments.tracking.connection import sqlite_file, sqlite_uri
from tests.experiments.sweeping import fork, small_specs
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


# ---- One history, one MLflow run ----


@pytest.mark.parametrize("same_process", [True, False])
def test_a_rerun_replaces_the_copy(tmp_path: Path, same_process: bool) -> None:
    begin(tmp_path, steps=24)
    first = mirror_of(tmp_path)
    first.sync([OTHER.run_id])
    (old,) = copies(first, OTHER)
    back_up(Ledger(tmp_path), [OTHER.run_id], [])
    begin(tmp_path, steps=9, at=5000.0)
    made = first if same_process else mirror_of(tmp_path)
    made.sync([OTHER.run_id])
    (new,) = copies(made, OTHER)
    assert new.info.run_id != old.info.run_id
    assert steps(made, new) == list(range(1, 10))


def test_a_finished_run_that_lost_its_metrics_and_its_result_is_another_history(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    mirror_of(out).sync([spec.run_id])
    unfinish(out, spec)
    folder = Ledger(out).folder(spec.run_id)
    Path(folder.metrics).unlink()
    record_failure(folder, "Boom", "Boom: before it began", "trace")
    made = mirror_of(out)
    made.sync([spec.run_id])
    (run,) = copies(made, spec)
    assert run.data.metrics == {}


def test_a_run_that_begins_after_its_first_failure_has_one_copy(tmp_path: Path) -> None:
    Ledger(tmp_path).add([OTHER])
    record_failure(Ledger(tmp_path).folder(OTHER.run_id), "Boom", "Boom: too early", "trace")
    made = mirror_of(tmp_path)
    for _ in range(2):
        made.sync([OTHER.run_id])
        mirror_of(tmp_path).sync([OTHER.run_id])
    (early,) = copies(made, OTHER)
    assert early.info.status == "FAILED"
    begin(tmp_path)
    made.sync([OTHER.run_id])
    (run,) = copies(made, OTHER)
    assert run.info.start_time == 1_000_000


def test_two_processes_that_create_a_copy_at_once_keep_one(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process creates its copy, and sends all, between this one's search and creation."""
    out, spec = again
    slow, quick = mirror_of(out), mirror_of(out)
    create, raced = slow.client.create_run, list[bool]()

    def late(*arguments: Any, **named: Any) -> Any:
        if not raced:
            raced.append(True)
            quick.sync([spec.run_id])
        return create(*arguments, **named)

    monkeypatch.setattr(slow.client, "create_run", late)
    slow.sync([spec.run_id])
    quick.sync([spec.run_id], last=True)
    has_all(quick, spec)
    assert len(slow.runs.search("tags.`tcclip.sweep` = 'zero_shot (demo)'")) == 1


def test_a_copy_that_another_process_deleted_is_replaced(tmp_path: Path) -> None:
    begin(tmp_path, steps=3)
    made = mirror_of(tmp_path)
    made.sync([OTHER.run_id])
    (run,) = copies(made, OTHER)
    made.client.delete_run(run.info.run_id)
    begin(tmp_path, steps=5)
    made.sync([OTHER.run_id])
    (new,) = copies(made, OTHER)
    assert steps(made, new) == [1, 2, 3, 4, 5]


def test_an_experiment_that_was_deleted_is_restored(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    made = mirror_of(out)
    made.sync([spec.run_id])
    experiment = made.client.get_experiment_by_name("zero_shot (demo)")
    made.client.delete_experiment(experiment.experiment_id)
    begin(out)
    made = mirror_of(out)
    made.sync([OTHER.run_id, spec.run_id])
    has_all(made, spec)
    assert len(copies(made, OTHER)) == 1


# ---- One folder, one set of copies ----


def test_two_folders_may_share_a_tracker(again: tuple[Path, RunSpec], tmp_path: Path) -> None:
    out, spec = again
    uri, other = sqlite_uri(tmp_path / "shared.db"), tmp_path / "other"
    Mirror(Ledger(out), uri).sync([spec.run_id])
    begin(other, spec)
    second = Mirror(Ledger(other), uri)
    second.sync([spec.run_id], last=True)
    assert sorted(run.info.status for run in copies(second, spec)) == ["FINISHED", "KILLED"]
    assert {run.data.tags["tcclip.output"] for run in copies(second, spec)} == {
        str(out), str(other)
    }  # fmt: skip
    shutil.rmtree(Ledger(other).folder(spec.run_id).path)
    second.sync([], last=True)
    has_all(second, spec)


@pytest.mark.parametrize("link", [True, False])
def test_a_folder_that_is_moved_or_linked_keeps_its_copies(tmp_path: Path, link: bool) -> None:
    uri, out, other = sqlite_uri(tmp_path / "shared.db"), tmp_path / "out", tmp_path / "other"
    begin(out)
    Mirror(Ledger(out), uri).sync([OTHER.run_id])
    other.symlink_to(out) if link else out.rename(other)
    made = Mirror(Ledger(other), uri)
    made.sync([OTHER.run_id])
    (run,) = copies(made, OTHER)
    assert run.data.tags["tcclip.output"] == str(out if link else other)
    assert len(made.links([OTHER])) == 1


def test_runs_that_may_only_be_read_are_copied(
    again: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again

    def read_only(*_: Any) -> bool:
        raise StorageError("cannot write")

    monkeypatch.setattr("experiments.tracking.mlflow_runs.create_text", read_only)
    for _ in range(2):
        made = Mirror(Ledger(out), sqlite_uri(tmp_path / "mine.db"))
        made.sync([spec.run_id])
        has_all(made, spec)
    assert not (out / "mlflow.json").exists()


# ---- Deleted and made again ----


def sync(out: Path, *options: str) -> str:
    """What `tcclip ui --sync` prints."""
    return CliRunner().invoke(cli.app, ["ui", "--sync", "--out", str(out), *options]).stdout


def test_a_deleted_database_is_filled_again(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    Ledger(out).add([OTHER])
    for _ in range(2):
        assert sync(out) == "1 runs are in MLflow; 1 have not begun\n"
        has_all(mirror_of(out), spec)
        (out / "mlflow.db").unlink()


def test_rebuild_replaces_a_damaged_database(again: tuple[Path, RunSpec]) -> None:
    out, spec = again
    (out / "mlflow.db").write_text("not a database")
    with pytest.raises(
        UserError, match=r"cannot be written (?s:.*)--rebuild if its database is damaged"
    ):
        ui.sync(out)
    assert sync(out, "--rebuild") == "1 runs are in MLflow\n"
    has_all(mirror_of(out), spec)


def test_rebuild_on_a_tracker_of_others_deletes_only_the_folders_own_copies(
    again: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(tmp_path / "shared.db"))
    begin(tmp_path / "other")
    assert ui.sync(tmp_path / "other") == (1, 0)
    assert ui.sync(out) == (1, 0)
    (before,) = copies(mirror_of(out), spec)
    (others,) = copies(mirror_of(out), OTHER)
    assert ui.sync(out, rebuild=True) == (1, 0)
    has_all(mirror_of(out), spec)
    assert copies(mirror_of(out), spec)[0].info.run_id != before.info.run_id
    assert [run.info.run_id for run in copies(mirror_of(out), OTHER)] == [others.info.run_id]


def test_a_database_that_moved_with_its_folder_is_rebuilt(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    """MLflow keeps absolute addresses: new artifacts would go to the old folder."""
    out, spec = again
    ui.sync(out)
    moved = tmp_path / "moved, 100 %"
    shutil.copytree(out, moved)
    before = sorted(out.rglob("*"))
    assert ui.sync(moved, rebuild=True) == (1, 0)
    has_all(mirror_of(moved), spec)
    (run,) = copies(mirror_of(moved), spec)
    assert run.info.artifact_uri.startswith((moved / "mlflow-artifacts").as_uri() + "/")
    assert sorted(out.rglob("*")) == before, "nothing goes to where it was"


# ---- The database ----


def _mirror_whole(out: Path) -> None:
    mirror_of(out).sync([OTHER.run_id], last=True)


def test_processes_that_begin_at_once_make_one_database_with_one_copy(tmp_path: Path) -> None:
    out = tmp_path / "my out"
    begin(out, steps=50)
    both = [fork(_mirror_whole, out) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    made = mirror_of(out)
    made.sync([OTHER.run_id])
    (run,) = copies(made, OTHER)
    assert steps(made, run) == list(range(1, 51))
    left = {path.name for path in out.iterdir()}
    assert left == {"runs", "mlflow.db", "mlflow.json", "mlflow-artifacts"}
    assert [path.name for path in tmp_path.iterdir()] == ["my out"]


def test_a_database_that_was_cut_short_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.db.utils._verify_schema", cut)  # the tables are there by then
        with pytest.raises(RuntimeError):
            mirror_of(tmp_path)
    assert list(tmp_path.iterdir()) == []
    mirror_of(tmp_path).client.search_experiments()


def test_a_relative_database_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///my runs.db")
    assert sqlite_file(default_uri(tmp_path / "out")) == tmp_path / "my runs.db"
    mirror_of(tmp_path / "out")
    assert (tmp_path / "my runs.db").exists()


def test_a_database_of_others_keeps_their_addresses(tmp_path: Path) -> None:
    uri = sqlite_uri(tmp_path / "shared.db")
    MlflowClient(uri).create_experiment("zero_shot (demo)", "s3://chosen/by-hand")
    (spec,) = small_specs()
    made = Mirror(Ledger(tmp_path / "out"), uri)
    made.runs.parent(spec)
    experiment = made.client.get_experiment_by_name("zero_shot (demo)")
    assert experiment.artifact_location == "s3://chosen/by-hand"
