"""The Ray executor: every run is a Ray Train job, driven by a thread of the sweep's process.

Ray finds the places and watches the workers; what is finished, what is tried again and from where
a run goes on is the sweep's to say. Only this file and `ray_search` import ray.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Read by Ray when it is imported or started, so they come first.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Ray polls its workers this often; the default of 2 s costs a short run several seconds.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# A node that its provider takes back is a lost worker like any other: the sweep decides.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
# The driver's environment, GPUs included, is not Ray's to rewrite when a worker has none.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import ray.exceptions
import ray.train
import ray.train.torch

from experiments.errors import RunError, UserError, is_permanent
from experiments.scheduler.executor import AttemptError, cpu_count
from experiments.worker.job import Job
from results.reading.location import scratch_folder

#: What Ray says of a lost worker, among much else.
_WHY = re.compile(r"The actor is dead because [^.]+")
#: How often a cluster is asked what it has, seconds.
LOOK_SECONDS = 2.0
#: After so long a user is told what is waited for.
SILENT_SECONDS = 20.0
#: What Ray raises where the cluster, or a part of it, is not there any more.
_GONE = (ray.exceptions.RayError, ConnectionError, RuntimeError)

log = logging.getLogger(__name__)


class Cluster:
    """A Ray cluster, joined or started here, and how a run is computed on it."""

    def __init__(
        self, *, workers: int, device: str, limit: int | None, address: str | None
    ) -> None:
        """UserError if there is none at `address`, or it has no room for `workers`.

        `limit`: runs at once, at most.
        """
        self.workers, self.limit, self._address = workers, limit, address
        self.scratch = scratch_folder()
        try:
            _start(address, self.scratch)
        except ConnectionError as error:
            raise UserError(f"--address {address}: no Ray cluster there ({error})") from error
        resources = ray.cluster_resources()
        self.gpu = device == "cuda" or (device == "auto" and resources.get("GPU", 0) > 0)
        self._looked, self._total = time.monotonic(), self._count()
        if self._total < workers:
            self.close()
            raise UserError(
                f"--workers-per-run {workers} needs as many {'GPUs' if self.gpu else 'CPUs'}, "
                f"and there {'is' if self._total == 1 else 'are'} {self._total}; ask for fewer, "
                "or for --device cpu"
            )

    @property
    def slots(self) -> int:
        """Runs there is room for: without a cap, waiting runs keep each other from starting."""
        if self._address is not None and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked, self._total = time.monotonic(), self._count()
        room = self._total // self.workers
        return room if self.limit is None else min(room, self.limit)

    def _count(self) -> int:
        if not self.gpu and self._address is None:
            return cpu_count()  # Ray was told of one more, for the drivers of a search
        try:
            return int(ray.cluster_resources().get("GPU" if self.gpu else "CPU", 0))
        except _GONE as error:
            raise UserError(
                f"the Ray cluster does not answer any more ({error}); see to it, and start the "
                "sweep again: it goes on from the last checkpoints"
            ) from error

    def faults(self, jobs: Sequence[Job]) -> dict[str, str]:
        """See `Executor.faults`: asked on a node that has room for a worker, once there is one."""
        room = {"num_gpus": 1} if self.gpu else {"num_cpus": 1}
        try:
            asked = ray.remote(max_retries=0, **room)(_faults).remote(
                [job.model_dump_json() for job in jobs]
            )
            if not ray.wait([asked], timeout=SILENT_SECONDS)[0]:
                log.warning("looking whether the runs can begin, or waiting for room to do so")
            found: dict[str, str] = ray.get(asked)
        except _GONE as error:
            raise UserError(
                f"whether the runs could begin was not found out ({error}); try again"
            ) from error
        return found

    def settings(self) -> dict[str, Any]:
        """What `trainer` needs to know; plain values, for other processes."""
        return {"gpu": self.gpu, "workers": self.workers, "scratch": str(self.scratch)}

    def close(self) -> None:
        """Leave the cluster (stopping it if it was started here) and remove scratch files."""
        ray.shutdown()
        shutil.rmtree(self.scratch, ignore_errors=True)


class RayExecutor:
    """Runs as Ray Train jobs side by side, as many as there is room for."""

    name = "ray"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ended: queue.SimpleQueue[tuple[str, AttemptError | None]] = queue.SimpleQueue()

    @property
    def slots(self) -> int:
        """See `Executor.slots`."""
        return self._cluster.slots

    def start(self, job: Job) -> None:
        """See `Executor.start`."""
        threading.Thread(target=self._drive, args=(job,), daemon=True, name="run").start()

    def _drive(self, job: Job) -> None:
        death: AttemptError | None = None
        try:
            trainer(job.model_dump_json(), self._cluster.settings()).fit()
        except Exception as error:  # noqa: BLE001
            # Whatever stopped it, in the worker or in Ray: the sweep decides what follows.
            death = death_of(error)
        self._ended.put((job.spec.run_id, death))

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        """See `Executor.ended`."""
        try:
            found = [self._ended.get(timeout=timeout)]
            while not self._ended.empty():
                found.append(self._ended.get())
        except queue.Empty:
            return {}
        return dict(found)

    def faults(self, jobs: Sequence[Job]) -> dict[str, str]:
        """See `Executor.faults`."""
        return self._cluster.faults(jobs)

    def close(self) -> None:
        """See `Executor.close`."""
        self._cluster.close()


def _start(address: str | None, scratch: Path) -> None:
    # Ray puts the driver's working directory on its workers' import path, where a user's own
    # results/ or cli.py would shadow ours; so Ray is started from an empty folder.
    here = Path.cwd()
    os.chdir(scratch)
    try:
        if address is not None:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                num_cpus=cpu_count() + 1,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    finally:
        os.chdir(here)


def trainer(job: str, settings: dict[str, Any]) -> ray.train.torch.TorchTrainer:
    """A Ray Train job on one run's workers."""
    return ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings["workers"],
            use_gpu=settings["gpu"],
            resources_per_worker={"GPU": 1} if settings["gpu"] else {"CPU": 1},
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if settings["gpu"] else "gloo"),
        run_config=ray.train.RunConfig(
            name=uuid.uuid4().hex,
            storage_path=settings["scratch"],
            # What is tried again, and in whose name, is the sweep's to say: with Ray's own second
            # try the first worker, if it still lives, would hold the same lease.
            failure_config=ray.train.FailureConfig(max_failures=0, max_preemption_failures=0),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """What every worker of a run does."""
    from experiments.worker.run import execute

    execute(Job.model_validate_json(config["job"]))


def _faults(jobs: list[str]) -> dict[str, str]:
    """What one worker does for `Cluster.faults`."""
    from experiments.worker.preflight import faults

    return faults([Job.model_validate_json(job) for job in jobs])


def death_of(error: Exception) -> AttemptError:
    """Why a Train job ended: of its ranks' errors the one that is not another's consequence."""
    if not isinstance(error, ray.train.WorkerGroupError):
        return AttemptError.of(error)
    failures: dict[int, Exception] = error.worker_failures
    rank = min(sorted(failures), key=lambda one: _telling(failures[one]))
    if not _rays(failures[rank]):
        return AttemptError.of(failures[rank], str(error))
    said = _WHY.search(str(failures[rank]))
    why = said[0] if said else str(failures[rank]).strip().splitlines()[0]
    return AttemptError("WorkerDied", f"WorkerDied: rank {rank} is gone: {why}", str(error))


def _rays(error: Exception) -> bool:
    """Whether this is Ray's word on a worker, not what the run itself raised there."""
    return type(error).__module__.partition(".")[0] == "ray"


def _telling(error: Exception) -> int:
    """Lowest for what the run itself raised; a rank whose partner is gone fails as well."""
    if isinstance(error, RunError) or is_permanent(error):
        return 0
    return 1 if _rays(error) else 2
