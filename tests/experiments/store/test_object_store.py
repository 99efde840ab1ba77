"""Run folders in an object store: a real server, the same numbers, whatever breaks on the way."""

import contextlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import s3fs
from upath import UPath

import cli
from experiments.datasets.paths import DataPaths
from experiments.errors import LeaseHeld, StorageError, UserError
from experiments.grid.spec import RunSpec
from experiments.store import append_file as growing
from experiments.store.attempt_records import record_failure
from experiments.store.files import create_text, write_text
from experiments.store.lease import claim
from experiments.store.ledger import Ledger, matching
from experiments.store.rerun import back_up, find_backups, restore_unless_begun
from experiments.tracking import Mirror, default_uri, ui
from experiments.worker.checkpoints import RunCheckpoints
from experiments.worker.job import Job
from results.reading.holder import lease_files, read_holder
from results.reading.location import (
    Location,
    check_reachable,
    local_copy,
    location,
    names,
    read_bytes,
)
from results.reading.run_folder import State
from results.report.report import report
from tcclip.model import Model, build_model
from tcclip.weights.layouts import look_at
from tests.experiments.s3 import Gate, answers, environment, free_port, serving
from tests.experiments.sweeping import (
    EVERY_STEP,
    EXECUTION,
    SETTINGS,
    fork,
    kill_once,
    numbers,
    run_sweep,
    small_specs,
)

Bucket = Callable[[], Location]


@pytest.fixture(autouse=True)
def no_connection_of_another_test() -> Iterator[None]:
    """Clients are kept by what they were made with, which their address is no part of."""
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as number:
        yield number


@pytest.fixture(scope="module")
def bucket(port: int) -> Iterator[Bucket]:
    """Makes output folders in buckets of their own, while the environment leads to the server."""

    def make() -> Location:
        name = f"bucket-{uuid.uuid4().hex}"
        s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
        return location(f"s3://{name}/some/out")

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(port).items():
            patch.setenv(name, value)
        patch.setattr(s3fs.S3FileSystem, "retries", 2)
        yield make


def _sweep(out: str, cache: Path) -> None:
    run_sweep(small_specs(), location(out), cache, EVERY_STEP)


@pytest.fixture(scope="module")
def swept(bucket: Bucket, cache: Path) -> tuple[Location, RunSpec]:
    """A finished run in a bucket, made in two parts: killed after its first checkpoint."""
    out, (spec,) = bucket(), small_specs()
    folder = Ledger(out).folder(spec.run_id)
    kill_once(fork(_sweep, str(out), cache), folder.last.exists)
    assert folder.state() is State.STALE
    assert run_sweep([spec], out, cache).exit_code == 0
    return out, spec


def test_a_killed_sweep_goes_on_to_the_numbers_of_a_local_one(
    swept: tuple[Location, RunSpec], finished: tuple[Path, RunSpec]
) -> None:
    out, spec = swept
    assert numbers(out, spec) == numbers(*finished)
    here, there = (Ledger(one).folder(spec.run_id) for one in (finished[0], out))
    assert there.state() is State.FINISHED
    assert re.search("goes on from step [1-9]", there.log.read_text())
    steps = [json.loads(line)["step"] for line in there.metrics.read_text().splitlines()]
    assert steps == sorted(steps)
    assert {name for name in files_of(there.path) if "tmp" not in name} == files_of(here.path)
    assert there.best.read_bytes() == here.best.read_bytes()


def test_a_child_starts_from_its_parents_selected_weights(
    swept: tuple[Location, RunSpec], model: Model, tmp_path: Path
) -> None:
    out, spec = swept
    child = spec.model_copy(update={"parent": spec.run_id})
    job = Job(
        spec=child, out=out, data_paths=DataPaths(cache=tmp_path), execution=EXECUTION, owner="test"
    )
    path = Job.model_validate_json(job.model_dump_json()).initial_weights
    assert path is not None
    with local_copy(path) as copy:
        kept = look_at(copy).state
    assert str(path).startswith("s3://")
    assert kept.keys() == model.state_dict().keys()
    assert not copy.exists(), "the copy goes with its use"


def files_of(folder: Location) -> set[str]:
    prefix = len(folder.path if isinstance(folder, UPath) else str(folder)) + 1
    if isinstance(folder, UPath):
        return {name[prefix:] for name in folder.fs.find(folder.path)}
    return {str(path)[prefix:] for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def tcclip(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs a command with `--format json` and gives what it prints."""

    def run(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["tcclip", *arguments, "--format", "json"])
        with contextlib.suppress(SystemExit):
            assert not cli.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_status_report_and_a_dry_run_read_it(
    swept: tuple[Location, RunSpec], finished: tuple[Path, RunSpec], tcclip: Callable[..., Any]
) -> None:
    out, spec = swept
    shown = json.dumps(tcclip("status", "--out", str(out)))
    assert spec.run_id in shown and "finished" in shown
    there, here = (report([one], "zero_shot", demo=True) for one in (str(out), finished[0]))
    assert there.rows and there.complete == here.complete
    assert [row.cells for row in there.rows] == [row.cells for row in here.rows]
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    options = ["--demo", "--models", "tc_clip", "--seeds", "0,1", *settings, "--out", str(out)]
    rows = tcclip("sweep", "zero_shot", "--dry-run", *options)
    assert {row["run_id"]: row["state"] for row in rows}[spec.run_id] == "finished"
    assert sorted(row["state"] for row in rows) == ["finished", "planned"]


@pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own
def test_mlflow_has_its_view_in_the_users_cache(
    swept: tuple[Location, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = swept
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=rf"view of {out} .*\({tmp_path}.*tcclip ui --sync"):
        ui.serve_ui(out, host="127.0.0.1", port=0)
    made = Mirror(Ledger(out), default_uri(out))
    made.sync([spec.run_id])
    (view,) = (tmp_path / "tcclip").iterdir()
    assert view.name.startswith("out-") and (view / "mlflow.db").exists()
    experiment = made.client.get_experiment_by_name("zero_shot (demo)")
    query = f"tags.`tcclip.run_id` = '{spec.run_id}'"
    (run,) = made.client.search_runs([experiment.experiment_id], query)
    history = made.client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(1, 13))
    found = {file.path for file in made.client.list_artifacts(run.info.run_id)}
    assert found == {"spec.json", "result.json", "run.log"}


def test_a_rerun_moves_a_run_aside_and_puts_it_back(bucket: Bucket) -> None:
    out, (spec,) = bucket(), small_specs()
    ledger = Ledger(out)
    ledger.add([spec])
    folder = ledger.folder(spec.run_id)
    with claim(folder.path):
        assert folder.state() is State.RUNNING
        with pytest.raises(StorageError, match="stop it first"):
            back_up(ledger, matching(ledger.states([spec]), spec.run_id), [])
    record_failure(folder, "Boom", "boom", "trace")
    write_text(folder.last, "state")
    before = names(folder.path)
    assert back_up(ledger, matching(ledger.states([spec]), "failed"), []) == []
    assert folder.state() is State.PLANNED
    assert not names(folder.path)
    assert find_backups(ledger, {spec.run_id}) == {spec.run_id}
    assert restore_unless_begun(ledger, spec.run_id)
    assert names(folder.path) == before
    assert read_bytes(folder.last) == b"state"
    assert not find_backups(ledger, {spec.run_id})


def _grab(out: str, together: Any, said: Any) -> None:
    folder = location(out)
    together.wait(60)
    try:
        claim(folder)
        said.put("mine")
    except LeaseHeld:
        said.put("held")
    together.wait(60)  # the winner lives until both have tried
    os._exit(0)


def test_of_two_processes_one_gets_a_run(bucket: Bucket) -> None:
    out, context = bucket(), get_context("fork")
    together, said = context.Barrier(2), context.SimpleQueue()
    both = [fork(_grab, str(out), together, said) for _ in range(2)]
    for one in both:
        one.join()
    assert sorted(said.get() for _ in both) == ["held", "mine"]
    assert names(out) == ["lease-000001.json"]
    dead = read_holder(out)
    assert dead is not None
    assert not dead.seems_alive()
    with claim(out) as lease:
        lease.check()
        assert names(out) == ["lease-000002.json"]
    assert not names(out)


def test_an_answer_that_got_lost_is_no_lost_race(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = bucket() / "file", s3fs.S3FileSystem.pipe_file

    def twice(self: Any, *arguments: Any, **named: Any) -> None:
        for _ in range(2):  # the client's second try meets what its first one wrote
            real(self, *arguments, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "pipe_file", twice)
    assert create_text(path, "mine")
    assert not create_text(path, "another's")
    assert path.read_text() == "mine"


def test_a_store_that_overwrites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    out = location(f"memory://{uuid.uuid4().hex}/out")
    Ledger(out).add([])
    assert isinstance(out, UPath)
    real = type(out.fs).pipe_file
    monkeypatch.setattr(
        type(out.fs), "pipe_file", lambda self, path, value, mode: real(self, path, value)
    )
    with pytest.raises(StorageError, match="this store overwrites where it should create"):
        Ledger(out).add([])
    assert not names(out), "the trial leaves nothing"


def test_no_more_of_an_object_is_fetched_than_a_record_has(bucket: Bucket) -> None:
    out = bucket()
    (out / "empty").write_bytes(b"")
    (out / "large").write_bytes(b"x" * 1000)
    assert read_bytes(out / "empty") == b""
    assert read_bytes(out / "large", 1000) == b"x" * 1000
    assert read_bytes(out / "nothing") is None
    with pytest.raises(StorageError, match=r"cannot read .*large: larger than .* move it away"):
        read_bytes(out / "large", 999)


def test_a_missing_bucket_is_said(bucket: Bucket) -> None:
    assert check_reachable(bucket()), "a folder need not exist"
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'"):
        check_reachable(location("s3://no-such-bucket/out"))


def test_without_a_server_a_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = free_port()
    assert not answers(nobody)
    for name, value in environment(nobody).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    for command in (["status"], ["report", "zero_shot"], ["sweep", "zero_shot", "--dry-run"]):
        s3fs.S3FileSystem.clear_instance_cache()
        monkeypatch.setattr(sys, "argv", ["tcclip", *command, "--out", "s3://bucket/out"])
        assert cli.main() == 2
        said = capsys.readouterr().err
        assert said.startswith("tcclip: cannot reach s3://bucket/out: EndpointConnectionError")
        assert "AWS_ENDPOINT_URL" in said and said.count("\n") == 1


@pytest.fixture(scope="module")
def model() -> Model:
    spec = small_specs()[0]
    return build_model(spec.model, ["a", "b"], clip_weights="random", seed=0)


def state(step: int, best: int) -> dict[str, Any]:
    return {"model": {}, "progress": {"step": step, "best_epoch": best}}


def record(step: int) -> dict[str, Any]:
    return {"kind": "step", "step": step}


def test_a_store_that_goes_away_costs_what_came_after_the_last_checkpoint(
    port: int, bucket: Bucket, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = bucket()
    with Gate(port) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{gate.port}")
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()
        folder = Ledger(location(str(out))).folder("run")
        with claim(folder.path) as lease, RunCheckpoints(folder, lease) as journal:
            assert journal.load_last() is None
            journal.log(record(1))
            journal.keep_best(model, 1)
            journal.save_last(state(1, 1), wait=True)
            journal.log(record(2))
            gate.shut()
            with pytest.raises(StorageError, match=r"cannot reach s3://.*finished work is kept"):
                journal.save_last(state(2, 1), wait=True)
            with pytest.raises(StorageError, match="cannot reach"):
                folder.state()
        gate.open()
        assert lease_files(folder.path), "it could not be given back"
        with (
            claim(folder.path, alive=lambda holder: False) as lease,
            RunCheckpoints(folder, lease) as journal,
        ):
            assert journal.load_last() == state(1, 1)
            journal.log(record(2))
            journal.save_last(state(2, 1), wait=True)
        lines = folder.metrics.read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2]
        assert folder.best_of(1).exists()


def test_metrics_are_seen_while_the_run_goes_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "UPLOAD_SECONDS", 0.05)
    folder = Ledger(bucket()).folder("run")
    with claim(folder.path) as lease, RunCheckpoints(folder, lease) as journal:
        journal.log(record(1))
        deadline = time.monotonic() + 30
        while not folder.metrics.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        journal.log({**record(2), "top1": 1.0})
        assert len(folder.metrics.read_text().splitlines()) == 2, "a validation is shown at once"
        with claim(folder.path, alive=lambda holder: False):
            before = folder.metrics.read_text()
            journal.log(record(3))
            time.sleep(0.3)
            assert folder.metrics.read_text() == before, "another process's by now"
