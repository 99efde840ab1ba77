"""The Ray executor: every run is a Ray Train job, driven by a thread of the sweep's process.

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
from functools import partial
from typing import Any

# Read by Ray when it is imported or started, so they come first.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Ray polls its workers this often; the default of 2 s costs a short run several seconds.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# The workers of a node that its provider takes back are lost like any others, and the sweep starts
# the run again; the watcher would cost every run one more process.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

import ray
import ray.exceptions
import ray.train
import ray.train.torch

from experiments.errors import RunError, UserError, WorkerDied, is_permanent
from experiments.scheduler.executor import AttemptError
from experiments.worker.job import Job
from results.reading.location import scratch_folder
from tcclip.config import Execution

#: The sentence with the cause in Ray's long message about a lost worker.
_CAUSE = re.compile(r"The actor is dead because [^.]+")
#: What Ray raises when the cluster does not answer any more.
_UNREACHABLE = (ray.exceptions.RayError, ConnectionError, RuntimeError)


class RayExecutor:
    """Runs as Ray Train jobs side by side, on a Ray cluster that is joined or started here."""

    def __init__(self, execution: Execution, limit: int | None, address: str | None) -> None:
        """UserError if there is no cluster at `address`, or it has no room for the workers.

        `limit`: runs at once, at most.
        """
        self.workers, self.limit, self._address = execution.workers, limit, address
        self._ended: queue.SimpleQueue[dict[str, AttemptError | None]] = queue.SimpleQueue()
        self.scratch = scratch_folder()
        started = {"num_cpus": _cpu_count() + 1, "include_dashboard": False}
        which = started if address is None else {"address": address}
        try:
            # Ray puts the driver's working directory on its workers' import path, where a user's
            # own results/ or cli.py would shadow ours; so Ray is started from an empty folder.
            with contextlib.chdir(self.scratch):
                ray.init(**which, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise UserError(f"--address {address}: no Ray cluster there ({error})") from error
        gpus = ray.cluster_resources().get("GPU", 0)
        self.gpu = execution.device == "cuda" or (execution.device == "auto" and gpus > 0)
        self.trainer = partial(
            _trainer, workers=self.workers, gpu=self.gpu, scratch=str(self.scratch)
        )
        total = self._count()
        if total < self.workers:
            self.close()
            raise UserError(
                f"--workers-per-run {self.workers} needs as many {'GPUs' if self.gpu else 'CPUs'}, "
                f"and there {'is' if total == 1 else 'are'} {total}; ask for fewer, "
                "or for --device cpu"
            )

    @property
    def slots(self) -> int:
        """Runs there is room for. With more, Ray could place some workers of each and wait."""
        room = self._count() // self.workers
        return room if self.limit is None else min(room, self.limit)

    def _count(self) -> int:
        if not self.gpu and self._address is None:
            return _cpu_count()  # Ray was told of one more, for the drivers of a search
        try:
            return int(ray.cluster_resources().get("GPU" if self.gpu else "CPU", 0))
        except _UNREACHABLE as error:
            raise UserError(
                f"the Ray cluster does not answer any more ({error}); repair it, and start the "
                "sweep again: it goes on from the last checkpoints"
            ) from error

    def start(self, job: Job) -> None:
        threading.Thread(target=self._drive, args=(job,), daemon=True, name="run").start()

    def _drive(self, job: Job) -> None:
        failed: AttemptError | None = None
        try:
            self.trainer(job.model_dump_json()).fit()
        except Exception as error:  # noqa: BLE001
            # Anything in the worker or in Ray may have failed: the sweep decides what follows.
            failed = attempt_error(error)
        self._ended.put({job.spec.run_id: failed})

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        try:
            return self._ended.get(timeout=timeout)
        except queue.Empty:
            return {}

    def close(self) -> None:
        """Leave the cluster (stopping it if it was started here) and remove scratch files."""
        ray.shutdown()
        shutil.rmtree(self.scratch, ignore_errors=True)


def _trainer(job: str, workers: int, gpu: bool, scratch: str) -> ray.train.torch.TorchTrainer:
    """A Ray Train job on one run's workers."""
    return ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpu,
            resources_per_worker={"GPU": 1} if gpu else {"CPU": 1},
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=ray.train.RunConfig(
            name=uuid.uuid4().hex,
            storage_path=scratch,
            # Only the sweep retries: if Ray did, the first worker might still live and hold the
            # same lease as the second.
            failure_config=ray.train.FailureConfig(max_failures=0),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """What every worker of a run does."""
    from experiments.worker.run import execute

    execute(Job.model_validate_json(config["job"]))


def attempt_error(error: Exception) -> AttemptError:
    """Why a Train job ended: of its ranks' errors the one that is not a consequence of another."""
    if not isinstance(error, ray.train.WorkerGroupError):
        return AttemptError.of(error)
    failures: dict[int, Exception] = error.worker_failures
    rank = min(sorted(failures), key=lambda one: _order(failures[one]))
    if not _from_ray(failures[rank]):
        return AttemptError.of(failures[rank], str(error))
    said = _CAUSE.search(str(failures[rank]))
    why = said[0] if said else str(failures[rank]).strip().splitlines()[0]
    return AttemptError.of(WorkerDied(f"rank {rank} is gone: {why}"), str(error))


def _from_ray(error: Exception) -> bool:
    """Whether Ray raised this about a worker, not the run itself in the worker."""
    return type(error).__module__.partition(".")[0] == "ray"


def _order(error: Exception) -> int:
    """Lowest for an error of the run itself; a rank that loses its partner fails as well."""
    if isinstance(error, RunError) or is_permanent(error):
        return 0
    return 1 if _from_ray(error) else 2


def _cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
