"""What Ray is asked for: shares of GPUs, CPUs for loaders, and no GPU that has failed."""

import gc
import json
import os
import queue
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import cli
from experiments.cluster import find_ray
from experiments.datasets.paths import DataPaths
from experiments.errors import BrokenGpu, UserError
from experiments.grid.spec import RunSpec
from experiments.scheduler import ray_train
from experiments.scheduler.executor import AttemptError, Node, cpu_share, room, worker_resources
from experiments.scheduler.ray_train import RayExecutor
from experiments.worker.job import Job
from tcclip.config import Execution
from tests.experiments.scheduler.scripted import grid

ONE_GPU, EIGHT_GPUS = Node("a", 32, 1), Node("b", 16, 8)


@pytest.mark.parametrize(
    ("nodes", "share", "loaders", "expected", "fit"),
    [
        ([ONE_GPU], 1, 6, {"GPU": 1, "CPU": 7}, 1),
        ([ONE_GPU], 0.25, 6, {"GPU": 0.25, "CPU": 7}, 4),
        ([ONE_GPU], 0.3, 0, {"GPU": 0.3, "CPU": 1}, 3),
        # A share never spans two GPUs.
        ([Node("a", 32, 2)], 0.7, 0, {"GPU": 0.7, "CPU": 1}, 2),
        # Too few CPUs: each worker gets fewer, and no GPU waits for them.
        ([EIGHT_GPUS], 1, 6, {"GPU": 1, "CPU": 2}, 8),
        ([ONE_GPU, EIGHT_GPUS], 1, 1, {"GPU": 1, "CPU": 2}, 9),
        ([Node("a", 0, 4)], 1, 2, {"GPU": 1}, 4),
        # auto: all that is a worker's share.
        ([ONE_GPU], 0.5, "auto", {"GPU": 0.5, "CPU": ONE_GPU.cpus // 2}, 2),
        ([ONE_GPU, EIGHT_GPUS], 1, "auto", {"GPU": 1, "CPU": 2}, 9),
    ],
)
def test_a_worker_reserves_its_share_of_a_gpu_and_its_loaders_cpus(
    nodes: list[Node], share: float, loaders: Any, expected: dict[str, float], fit: int
) -> None:
    execution = Execution(gpus_per_worker=share, loader_workers=loaders)
    resources = worker_resources(nodes, execution, gpu=True)
    assert (resources, room(nodes, resources)) == (expected, fit)


@pytest.mark.parametrize(
    ("nodes", "workers", "loaders", "cpus"),
    [
        ([Node("a", 8, 0)], 1, 3, 4),
        ([Node("a", 2, 0)], 1, 3, 2),
        ([Node("a", 2, 0)], 2, 3, 1),
        ([Node("a", 4, 0), Node("b", 4, 0)], 2, 3, 4),
        ([Node("a", 1, 0)], 2, 3, 1),  # no room at all: refused
        ([Node("a", 8, 0)], 1, "auto", 1),
    ],
)
def test_a_run_on_cpus_can_start_whatever_its_loaders(
    nodes: list[Node], workers: int, loaders: Any, cpus: int
) -> None:
    execution = Execution(workers=workers, loader_workers=loaders)
    assert worker_resources(nodes, execution, gpu=False) == {"CPU": cpus}


@pytest.mark.parametrize(
    ("nodes", "resources", "workers", "share"),
    [
        ([Node("a", 2, 0)], {"CPU": 1}, None, 1),
        ([Node("a", 2, 0)], {"CPU": 1}, 1, 2),
        ([Node("a", 64, 4)], {"GPU": 1, "CPU": 16}, None, 16),
        ([Node("a", 64, 4)], {"GPU": 1, "CPU": 16}, 2, 32),
        ([Node("a", 64, 4), Node("b", 8, 1), Node("c", 1, 0)], {"GPU": 1, "CPU": 8}, 99, 8),
        ([Node("a", 0, 1)], {"GPU": 1}, None, 1),
        ([], {"CPU": 1}, None, 1),
    ],
)
def test_the_cpus_that_are_a_workers_share(
    nodes: list[Node], resources: dict[str, float], workers: int | None, share: int
) -> None:
    assert cpu_share(nodes, resources, workers) == share


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cpu"], "--gpus-per-worker 0.25: --device cpu has no GPU to share"),
        (["--workers-per-run", "2"], "a run's workers cannot share a GPU"),
        (["--gpus-per-worker", "2"], "'--gpus-per-worker'"),
    ],
)
def test_shares_that_cannot_be_are_refused(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    command = ["tcclip", "sweep", "zero_shot", "--demo", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, "--gpus-per-worker", "0.25", *options])
    try:
        code = cli.main()
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_shares_of_a_gpu_are_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("init", "shutdown"):
        monkeypatch.setattr(ray, name, lambda **_: None)
    monkeypatch.setattr(RayExecutor, "_nodes", lambda self: [Node("a", 2, 0)])
    with pytest.raises(UserError, match=r"--gpus-per-worker 0.5: there is no GPU to share; leave"):
        RayExecutor(Execution(gpus_per_worker=0.5), None, find_ray("local"))
    assert RayExecutor(Execution(), None, find_ray("local")).slots == 2


def jobs_of(specs: list[RunSpec], out: Path) -> list[Job]:
    return [
        Job(spec=spec, out=out, data_paths=DataPaths(cache=out), execution=Execution(),
            owner=spec.run_id)
        for spec in specs
    ]  # fmt: skip


class Actor:
    """In the place of an actor of Ray: its `compute` ends as `ends` says, one run after another."""

    def __init__(self, ends: list[Exception | None]) -> None:
        self.got: list[str] = []
        self.ends = ends
        self.compute = SimpleNamespace(remote=self._compute)

    def _compute(self, work: object, config: dict[str, Any]) -> Exception | None:
        self.got.append(json.loads(config["job"])["owner"])
        return self.ends.pop(0)


def test_a_worker_stays_for_the_next_run_until_one_fails_or_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ray.exceptions.RayTaskError("compute", "in the worker", UserError("no such list"))
    ends, actors, killed = [None, None, lost, None], list[Actor](), list[Actor]()

    def make() -> Actor:
        actors.append(Actor(ends))
        return actors[-1]

    def get(end: Exception | None) -> None:
        if end is not None:
            raise end

    for name in ("init", "shutdown"):
        monkeypatch.setattr(ray, name, lambda **_: None)
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "kill", killed.append)
    options = lambda **share: SimpleNamespace(remote=make)  # noqa: E731
    monkeypatch.setattr(ray_train, "_Worker", SimpleNamespace(options=options))
    monkeypatch.setattr(RayExecutor, "_nodes", lambda self: [Node("a", 2, 0)])
    executor = RayExecutor(Execution(), None, find_ray("local"))

    class Watched(queue.Queue[Any]):
        """The sweep looks for ends just before a run's is known: its worker must stay."""

        def put(self, item: Any, *_: Any) -> None:
            assert executor.ended(0.0) == {}
            super().put(item)

    executor._ended = Watched()  # type: ignore[assignment]
    kinds = []
    for job in jobs_of(grid(4), tmp_path):
        executor.start(job)
        (end,) = end_all(executor, 1).values()
        kinds.append(None if end is None else (end.kind, end.permanent))
    assert kinds == [None, None, (UserError, True), None]
    assert [len(one.got) for one in actors] == [3, 1]
    assert killed == actors[:1]
    assert executor.ended(0.0) == {}
    assert killed == actors
    executor.close()


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two GPUs that are not there: to place runs, Ray needs none."""
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 8, "num_gpus": 2, "include_dashboard": False},
    )
    yield made
    with warnings.catch_warnings():  # Ray does not wait for the processes that it ended
        warnings.simplefilter("ignore", ResourceWarning)
        made.shutdown()
        del made
        gc.collect()


def work(folder: Path, breaks: str) -> Callable[[dict[str, str]], None]:
    """What a run does: say what it got, and wait until three have. GPU errors end run `breaks`."""

    def run(config: dict[str, str]) -> None:
        run_id = json.loads(config["job"])["owner"]
        context, gpu = ray.get_runtime_context(), os.environ["CUDA_VISIBLE_DEVICES"]
        got = context.get_assigned_resources()
        (folder / run_id).write_text(f"{gpu} {got['GPU']} {got['CPU']}")
        while len(list(folder.iterdir())) < 3:
            time.sleep(0.1)
        if run_id == breaks:
            error = BrokenGpu(f"GPU {gpu}", "uncorrectable ECC error encountered")
            error.place = (context.get_node_id(), gpu)
            raise error

    return run  # nested: sent to the workers as it is


def end_all(executor: RayExecutor, runs: int) -> dict[str, AttemptError | None]:
    ended: dict[str, AttemptError | None] = {}
    deadline = time.monotonic() + 240
    while len(ended) < runs and time.monotonic() < deadline:
        ended |= executor.ended(1.0)
    return ended


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray itself
def test_runs_share_gpus_and_one_that_failed_gets_no_more(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, specs = tmp_path / "got", grid(4)
    folder.mkdir()
    jobs = jobs_of(specs, tmp_path)
    monkeypatch.setattr(ray_train, "_work", work(folder, breaks=specs[0].run_id))
    execution = Execution(gpus_per_worker=0.5, loader_workers=1)
    executor = RayExecutor(execution, None, find_ray(cluster.address))
    try:
        assert executor.slots == 4
        for job in jobs[:3]:
            executor.start(job)
        ended = end_all(executor, 3)
        assert len(ended) == 3 and sum(end is None for end in ended.values()) == 2, ended
        # All three at once on two GPUs.
        got = {spec.run_id: (folder / spec.run_id).read_text() for spec in specs[:3]}
        assert Counter(Counter(text.split()[0] for text in got.values()).values()) == {1: 1, 2: 1}
        assert all(text.split()[1:] == ["0.5", "2.0"] for text in got.values())
        failed = ended.pop(specs[0].run_id)
        broken = got[specs[0].run_id].split()[0]
        assert failed is not None and failed.gpu == f"GPU {broken}"
        assert list(ended.values()) == [None, None]
        assert executor.slots == 2
        executor.start(jobs[3])
        assert list(end_all(executor, 1).values()) == [None]
        assert (folder / specs[3].run_id).read_text().split()[0] != broken
    finally:
        executor.close()
