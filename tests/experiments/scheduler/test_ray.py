"""Sweeps on Ray that lose workers and nodes, and that are told to stop."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from experiments.cluster import find_ray
from experiments.errors import UserError
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from results.reading.holder import Holder, lease_files, read_holder
from results.reading.run_folder import RunFolder, State
from tests.experiments.scheduler.test_signals import start, steps, wait_for
from tests.experiments.sweeping import (
    EXECUTION,
    break_list,
    copy_cache,
    numbers,
    run_sweep,
    small_specs,
)

#: Several processes start one after the other, which takes a busy machine minutes.
SLOW = (pytest.mark.slow, pytest.mark.timeout(600))
SAVE_EVERY_STEP = ("--set", "execution.checkpoint_minutes=0")


def holder(folder: RunFolder, process: subprocess.Popen[str]) -> Holder:
    """Who computes the run: not the sweep's process, which claimed it."""
    found = read_holder(folder.path)
    assert found is not None
    assert found.pid != process.pid
    return found


def check_finished(
    process: subprocess.Popen[str], out: Path, finished: tuple[Path, RunSpec]
) -> None:
    """The sweep ends well, and the run is as if nothing had happened."""
    expected, spec = finished
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert steps(out, spec) == list(range(1, 13))
    assert numbers(out, spec) == numbers(expected, spec)
    folder = Ledger(out).folder(spec.run_id)
    assert not folder.failure.exists()
    assert not lease_files(folder.path)


@pytest.mark.parametrize(
    ("workers", "killed"),
    [
        (1, False),
        pytest.param(2, False, marks=SLOW),
        pytest.param(2, True, marks=SLOW),
    ],
)
def test_workers_of_ray_train_as_this_process_in_a_folder_of_namesakes(
    tmp_path: Path, cache: Path, workers: int, killed: bool
) -> None:
    """One worker, and DDP on two, also when one of them is killed: the same steps and losses as in
    this process, each video predicted once. Nothing of the user's own `results`, `experiments` or
    `cli.py` is imported, workers included.
    """
    for name in ("results", "experiments", "protocols", "tcclip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "cli.py").write_text("raise RuntimeError('the wrong one')")
    (spec,) = small_specs(train__epochs=1)
    more = ("--workers-per-run", str(workers), "--micro-batch", str(32 // workers))
    more += SAVE_EVERY_STEP if killed else ()
    process = start(spec, tmp_path, cache, *more, executor="ray")
    out = tmp_path / "out"
    folder = Ledger(out).folder(spec.run_id)
    if killed:
        wait_for(process, out, spec, 3)
        sweep = psutil.Process(process.pid)
        sockets = [
            one.laddr.ip for part in (sweep, *sweep.children(recursive=True))
            for one in part.net_connections() if one.status == psutil.CONN_LISTEN
        ]  # fmt: skip
        assert set(sockets) <= {"127.0.0.1", "::ffff:127.0.0.1"} and len(sockets) > workers
        os.kill(holder(folder, process).pid, signal.SIGKILL)
    table, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "over 3 splits" in table
    if killed:
        log = folder.log.read_text()
        assert "failed attempt 1, trying again: WorkerDied: rank 0 is gone: The actor is" in log
        assert int(re.findall(r"goes on from step (\d+)", log)[-1]) >= 2
    assert not folder.failure.exists() and not lease_files(folder.path)
    assert not list(tmp_path.rglob("*.tmp"))
    for split in ("unseen1", "unseen2", "unseen3"):
        predictions = pq.read_table(folder.predictions("moving_shapes", split)).to_pandas()
        videos = predictions.groupby(["weights", "checkpoint"], observed=True).video
        assert (videos.agg(["size", "nunique"]) == 16).all(axis=None)
        assert predictions.readable.all()
    assert run_sweep([spec], tmp_path / "one", cache, EXECUTION).exit_code == 0
    there, here = losses(out, spec), losses(tmp_path / "one", spec)
    assert len(there) == len(here) == 6
    assert there == pytest.approx(here, rel=1e-3)
    result = folder.read_result()
    assert result is not None
    assert (result.provenance.world_size, result.provenance.global_batch) == (workers, 32)
    assert numbers(out, spec)["key"] == numbers(tmp_path / "one", spec)["key"]


def test_a_ray_that_starts_leaves_signals_to_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray sets a handler that ends the process, before it waits for its own."""
    from experiments.scheduler import ray_train

    def start_slowly(**_: Any) -> None:
        ray_train.utils.set_sigterm_handler(signal.SIG_IGN)
        raise RuntimeError("timed out")

    monkeypatch.setattr(ray_train.ray, "init", start_slowly)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UserError, match="timed out"):
        ray_train.RayExecutor(EXECUTION, 1, find_ray("local"))
    assert signal.getsignal(signal.SIGTERM) is before


def losses(out: Path, spec: RunSpec) -> list[float]:
    lines = Ledger(out).folder(spec.run_id).metrics.read_text().splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"]


@pytest.mark.slow
def test_a_loader_that_is_killed_ends_the_attempt_with_cause_and_remedy(
    finished: tuple[Path, RunSpec], tmp_path: Path, cache: Path
) -> None:
    _, spec = finished
    out = tmp_path / "out"
    folder = Ledger(out).folder(spec.run_id)
    more = ("--loader-workers", "1", *SAVE_EVERY_STEP)
    process = start(spec, tmp_path, cache, *more, executor="ray")
    wait_for(process, out, spec, 3)
    children = psutil.Process(holder(folder, process).pid).children()
    (loader,) = [one for one in children if one.name().startswith("pt_data_worker")]
    loader.kill()
    check_finished(process, out, finished)
    log = folder.log.read_text()
    assert "ended by SIGKILL" in log and re.search("--loader-workers 0|going on with 0", log)


@pytest.mark.slow
def test_what_a_worker_could_not_run_again_is_put_back(
    again: tuple[Path, RunSpec], tmp_path: Path, cache: Path
) -> None:
    out, spec = again
    own = copy_cache(cache, tmp_path / "cache")
    break_list(own)
    result = Ledger(out).folder(spec.run_id).result.read_bytes()
    process = start(spec, tmp_path, own, "--rerun", "all", executor="ray")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    assert "1 runs could not begin again and are as they were before" in error
    assert "unseen1.txt:1: label" in error
    assert Ledger(out).folder(spec.run_id).result.read_bytes() == result


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_sweep_on_ray_cleanly(
    finished: tuple[Path, RunSpec], tmp_path: Path, cache: Path, number: signal.Signals
) -> None:
    _, spec = finished
    out = tmp_path / "out"
    folder = Ledger(out).folder(spec.run_id)
    process = start(spec, tmp_path, cache, executor="ray")
    wait_for(process, out, spec, 3)
    os.killpg(process.pid, number)  # as a terminal and `timeout` do
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error
    assert "Traceback" not in error
    last = error.splitlines()[-1]
    assert last.startswith("to go on: ") and "tcclip sweep zero_shot --demo" in last
    assert folder.state() is State.PAUSED
    assert not folder.failure.exists()
    assert "paused after step" in folder.log.read_text()
    check_finished(start(spec, tmp_path, cache, executor="ray"), out, finished)
    assert int(re.findall(r"goes on from step (\d+)", folder.log.read_text())[-1]) >= 3


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that only drives, and two nodes with room for a run each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield made
    made.shutdown()


@pytest.mark.slow
def test_a_run_goes_on_elsewhere_when_its_node_is_lost(
    finished: tuple[Path, RunSpec], tmp_path: Path, cache: Path, cluster: Any
) -> None:
    _, spec = finished
    out = tmp_path / "out"
    folder = Ledger(out).folder(spec.run_id)
    address = ("--address", cluster.address)
    process = start(spec, tmp_path, cache, *address, *SAVE_EVERY_STEP, executor="ray")
    wait_for(process, out, spec, 8)
    worker = holder(folder, process).pid
    (lost,) = [node for node in cluster.worker_nodes if raylet_of(worker) == raylet(node)]
    cluster.remove_node(lost, allow_graceful=False)
    check_finished(process, out, finished)
    log = folder.log.read_text()
    assert "WorkerDied: rank 0 is gone" in log
    assert int(re.findall(r"goes on from step (\d+)", log)[-1]) >= 6


def raylet(node: Any) -> int:
    """The process id of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


def raylet_of(worker: int) -> int:
    """The raylet that started a worker."""
    return int(psutil.Process(worker).ppid())
