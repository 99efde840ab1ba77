"""The Ray executor: runs on Ray actors, each run driven by a thread of the sweep's process.

A run of one worker is computed by an actor that stays for the next run, since starting a process
and importing torch takes longer than some runs do. A run of several workers is a Ray Train job.
Ray places the workers and watches them; the sweep decides what is finished, what is tried again and
from where a run goes on. Only this file and `ray_tune` import ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

# Read by Ray when it is imported or started, so they come first.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Workers run in the environment of their node, also when the sweep was started by `uv run`.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Ray polls its workers this often; the default of 2 s costs a short run several seconds.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# The workers of a node that its provider takes back are lost like any others, and the sweep starts
# the run again; the watcher would cost every run one more process.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

import ray
import ray.exceptions
from ray._private import services, utils
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.cluster import RayPlace
from experiments.errors import BrokenGpu, RunError, UserError, WorkerDied, is_permanent
from experiments.machine import cpu_count
from experiments.scheduler.executor import (
    AttemptError,
    Node,
    cpu_share,
    forget_run,
    room,
    worker_resources,
)
from experiments.worker.job import Job
from results.reading.location import scratch_folder
from tcclip.config import Execution

log = logging.getLogger(__name__)

#: The sentence with the cause in Ray's long message about a lost worker.
_CAUSE = re.compile(r"The actor is dead because [^.]+")
#: What Ray raises when the cluster does not answer any more.
_UNREACHABLE = (ray.exceptions.RayError, ConnectionError, RuntimeError)
#: How long a GPU that failed may take to be free, so that it can be set aside.
SET_ASIDE_SECONDS = 60.0


class RayExecutor:
    """Runs side by side, on a Ray cluster that is joined or started here."""

    #: CPUs of a node that runs leave to others.
    spare_cpus = 0

    def __init__(self, execution: Execution, limit: int | None, place: RayPlace) -> None:
        """UserError if Ray does not start or answer at `place`, or has no room for the workers.

        `limit`: runs at once, at most.
        """
        self.workers, self.limit, self._place = execution.workers, limit, place
        #: Runs that ended, and the worker that could compute another.
        self._ended: queue.SimpleQueue[tuple[dict[str, AttemptError | None], Any]]
        self._ended = queue.SimpleQueue()
        #: (node, GPU) that failed -> the actor that keeps runs away from it.
        self._aside: dict[tuple[str, str], Any] = {}
        self._aside_lock = threading.Lock()
        #: Workers of ended runs, which may get another.
        self._idle: list[Any] = []
        self.scratch = scratch_folder()
        self._folder = place.make_folder() if place.address is None else None
        self._begin()
        nodes, share = self._nodes(), execution.gpus_per_worker
        gpus = any(node.gpus for node in nodes)
        gpu = execution.device == "cuda" or (execution.device == "auto" and gpus)
        self.resources = worker_resources(nodes, execution, gpu=gpu)
        workers = None if limit is None else limit * self.workers
        self._cpus = cpu_share(nodes, self.resources, workers)
        self.trainer = partial(
            _trainer, workers=self.workers, resources=self.resources, scratch=str(self.scratch),
            cpus=self._cpus, one_machine=place.address is None,
        )  # fmt: skip
        total = room(nodes, self.resources)
        if total < self.workers or (share < 1 and not gpu):
            self.close()
            if share < 1 and not gpus:
                raise UserError(
                    f"--gpus-per-worker {share:g}: there is no GPU to share; leave it out, or give "
                    "the --address of a cluster with GPUs"
                )
            raise UserError(
                f"--workers-per-run {self.workers} needs as many {'GPUs' if gpu else 'CPUs'}, "
                f"and there {'is' if total == 1 else 'are'} {total}; ask for fewer, "
                "or for --device cpu"
            )

    def _begin(self) -> None:
        """Join the cluster, or start Ray here."""
        which: dict[str, Any] = {"address": self._place.address}
        if self._folder is not None:
            which = {"address": "local", "_temp_dir": str(self._folder / "ray")}
            which |= {"num_cpus": cpu_count() + 1, "include_dashboard": False}
        try:
            # Ray puts the driver's working directory on its workers' import path, where a user's
            # own results/ or cli.py would shadow ours; so Ray is started from an empty folder.
            with contextlib.chdir(self.scratch), _signals_left_to_the_sweep():
                ray.init(**which, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException as error:  # Ray raises all kinds, `Exception` itself among them
            self.close()
            if not isinstance(error, Exception):
                raise
            said = " ".join(str(error).split())[:500] or type(error).__name__
            raise UserError(
                f"{self._place}: that failed ({said}); tcclip doctor looks for the cause, and "
                "--executor local needs no Ray"
            ) from error

    @property
    def slots(self) -> int:
        """Runs there is room for. With more, Ray could place some workers of each and wait."""
        runs = room(self._nodes(), self.resources) // self.workers
        return runs if self.limit is None else min(runs, self.limit)

    def _nodes(self) -> list[Node]:
        """The cluster's machines, without the GPUs that were set aside."""
        try:
            nodes = [
                Node(one["NodeID"], have.get("CPU", 0), have.get("GPU", 0))
                for one in ray.nodes()
                if one["Alive"] and (have := one["Resources"])
            ]
        except _UNREACHABLE as error:
            raise UserError(
                f"the Ray cluster does not answer any more ({error}); repair it, and start the "
                "sweep again: it goes on from the last checkpoints"
            ) from error
        if self._place.address is None:  # Ray was told of one CPU more, for the drivers of a search
            nodes = [one._replace(cpus=cpu_count()) for one in nodes]
        else:
            nodes = [one._replace(cpus=max(0, one.cpus - self.spare_cpus)) for one in nodes]
        aside = Counter(node for node, _ in self._aside)
        return [one._replace(gpus=one.gpus - aside[one.id]) for one in nodes]

    def start(self, job: Job) -> None:
        # Taken here: `ended`, which dismisses those that are left, is called by the same thread.
        worker = self._idle.pop() if self._idle else None
        thread = threading.Thread(target=self._drive, args=(job, worker), daemon=True, name="run")
        thread.start()

    def _drive(self, job: Job, worker: Any) -> None:
        failed: AttemptError | None = None
        try:
            if self.workers > 1:
                self.trainer(job.model_dump_json()).fit()
            else:
                worker = self._compute_alone(job, worker)
        except Exception as error:  # noqa: BLE001
            # Anything in the worker or in Ray may have failed: the sweep decides what follows.
            worker, failed = None, attempt_error(error)
            self.set_aside(error)
        self._ended.put(({job.spec.run_id: failed}, worker))

    def _compute_alone(self, job: Job, worker: Any) -> Any:
        """Have `job` computed by a worker that is there, or by a new one, and return it. What
        fails ends it."""
        if worker is None:
            actor: Any = _Worker  # ray is not typed
            share = {f"num_{name.lower()}s": count for name, count in self.resources.items()}
            worker = actor.options(**share).remote()
        try:
            config = {"job": job.model_dump_json(), "cpus": self._cpus}
            ray.get(worker.compute.remote(_work, config))
        except BaseException:
            ray.kill(worker)
            raise
        return worker

    def set_aside(self, error: Exception) -> None:
        """Keep runs away from a GPU that failed, if there is room for a run without it.

        Ray cannot be told to avoid one GPU of a node, so an actor of this sweep occupies it.
        """
        failures = _failures(error).values()
        places = {one.place for one in failures if isinstance(one, BrokenGpu) and one.place}
        for node, gpu in places:
            with self._aside_lock:
                try:
                    nodes = self._nodes()
                    left = [one._replace(gpus=one.gpus - (one.id == node)) for one in nodes]
                    known = (node, gpu) in self._aside
                    if not known and room(left, self.resources) >= self.workers:
                        gpus = sum(one.gpus for one in nodes if one.id == node)
                        self._occupy(node, gpu, int(gpus))
                except (ray.exceptions.RayError, UserError) as failed:
                    # Runs share it, or the node is lost.
                    log.warning("GPU %s of node %s cannot be set aside: %s", gpu, node, failed)

    def _occupy(self, node: str, gpu: str, gpus: int) -> None:
        """Start actors on the GPUs of `node` that are free, `gpus` at most, until one has `gpu`."""
        occupant: Any = _Occupant  # ray is not typed
        affinity = NodeAffinitySchedulingStrategy(node, soft=False)
        actors: list[Any] = []
        try:
            for _ in range(gpus):
                actors.append(occupant.options(scheduling_strategy=affinity).remote())
                if ray.get(actors[-1].gpu.remote(), timeout=SET_ASIDE_SECONDS) == gpu:
                    self._aside[node, gpu] = actors.pop()
                    return
        finally:
            for actor in actors:
                ray.kill(actor)

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        if self._ended.empty():  # all ends are known, and no run was started on these
            while self._idle:  # others may want their GPUs
                ray.kill(self._idle.pop())
        try:
            ended, worker = self._ended.get(timeout=timeout)
        except queue.Empty:
            return {}
        if worker is not None:
            self._idle.append(worker)
        return ended

    def close(self) -> None:
        """Leave the cluster (stopping it if it was started here) and remove scratch files."""
        ray.shutdown()
        for folder in (self.scratch, self._folder):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _signals_left_to_the_sweep() -> Iterator[None]:
    """What `timeout`, a shell or Ctrl-C sends to the sweep's process group is for the sweep: Ray's
    processes, started meanwhile, would end of it, and with them the runs before they are saved.
    Ray's own handler of SIGTERM would end the sweep without its summary.
    """
    real, handler = services.ConsolePopen, utils.set_sigterm_handler  # Ray has no option for them
    services.ConsolePopen = partial(real, process_group=0)
    utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        services.ConsolePopen, utils.set_sigterm_handler = real, handler


@ray.remote
class _Worker:
    """A process that computes runs of one worker, one after the other."""

    def compute(self, work: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> None:
        work(config)
        forget_run()


@ray.remote(num_gpus=1, num_cpus=0)
class _Occupant:
    """Computes nothing, so that no run gets its GPU."""

    def gpu(self) -> str:
        return _own_gpu()


def _own_gpu() -> str:
    """The id of the GPU that Ray gave this worker."""
    return str(ray.get_runtime_context().get_accelerator_ids()["GPU"][0])


def _trainer(
    job: str, workers: int, resources: dict[str, float], scratch: str, cpus: int, one_machine: bool
) -> Any:
    """A Ray Train job on one run's workers. `one_machine`: they are all here, as is `scratch`."""
    import ray.train.torch

    gpu, name = "GPU" in resources, uuid.uuid4().hex
    torch_config = ray.train.torch.TorchConfig(backend="nccl" if gpu else "gloo")
    if one_machine:
        torch_config = _meeting_in(f"{scratch}/{name}.meeting", torch_config.backend)
    return ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job, "cpus": cpus},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpu,
            resources_per_worker=resources,
        ),
        torch_config=torch_config,
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=scratch,
            # Only the sweep retries: if Ray did, the first worker might still live and hold the
            # same lease as the second.
            failure_config=ray.train.FailureConfig(max_failures=0),
        ),
    )


def _meeting_in(file: str, backend: str) -> Any:
    """Ray Train's settings for workers that find each other by a file.

    Ray lets them use PyTorch's TCP store, which listens on every interface of the machine, to
    whoever connects.
    """
    from ray.train.torch import config as ray_torch

    class Backend(ray_torch._TorchBackend):  # type: ignore[misc]  # ray is not typed
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(ray_torch._set_torch_distributed_env_vars)
            ray.get([
                worker_group.execute_single_async(
                    rank, ray_torch._setup_torch_process_group, backend=backend, world_rank=rank,
                    world_size=len(worker_group), init_method=f"file://{file}",
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ])  # fmt: skip

    class Config(ray_torch.TorchConfig):  # type: ignore[misc]
        backend_cls = Backend

    return Config(backend=backend)


def _work(config: dict[str, Any]) -> None:
    """What every worker of a run does."""
    from experiments.worker.run import execute

    try:
        # A node of the cluster may have fewer.
        execute(Job.model_validate_json(config["job"]), min(config["cpus"], cpu_count()))
    except BrokenGpu as error:
        error.place = (ray.get_runtime_context().get_node_id(), _own_gpu())
        raise


def attempt_error(error: Exception) -> AttemptError:
    """Why a run ended: of its ranks' errors the one that is not a consequence of another."""
    failures = _failures(error)
    if not failures:
        return AttemptError.of(error)
    rank = min(sorted(failures), key=lambda one: _order(failures[one]))
    if not _from_ray(failures[rank]):
        return AttemptError.of(failures[rank], str(error))
    said = _CAUSE.search(str(failures[rank]))
    why = said[0] if said else str(failures[rank]).strip().splitlines()[0]
    return AttemptError.of(WorkerDied(f"rank {rank} is gone: {why}"), str(error))


def _failures(error: Exception) -> dict[int, Exception]:
    """Rank -> its error, where workers failed: in a Train job, or the one of a run."""
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, Exception):
        return {0: error.cause}
    if isinstance(error, ray.exceptions.RayActorError):
        return {0: error}
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return failures


def _from_ray(error: Exception) -> bool:
    """Whether Ray raised this about a worker, not the run itself in the worker."""
    return type(error).__module__.partition(".")[0] == "ray"


def _order(error: Exception) -> int:
    """Lowest for an error of the run itself; a rank that loses its partner fails as well."""
    if isinstance(error, RunError) or is_permanent(error):
        return 0
    return 1 if _from_ray(error) else 2
