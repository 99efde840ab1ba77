"""The Ray executor: a Tune sweep whose trials drive Ray Train jobs. The only file that imports ray.

Ray schedules and restarts; what is finished, and from where a run goes on, is the ledger's to say.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tempfile
import threading
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
# The driver's environment, GPUs included, is not Ray's to rewrite when a worker has none.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import ray.train
import ray.train.torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from experiments.errors import UserError
from experiments.executor import cpu_count
from experiments.job import Job
from experiments.ledger import RunFolder
from experiments.status import validations

#: How often a trial of a search looks at its run's metrics, and what share of trials goes on.
REPORT_SECONDS, REDUCTION = 0.5, 3
#: How long a stopped run may take to end by itself.
STOP_SECONDS = 120.0
STOP_REASON = "the search: its validation top-1 fell behind the other trials' (ASHA)"
#: What a trial's driver asks for: it only waits for its workers (0 is refused by Ray).
DRIVER_CPUS = 0.01


class RayExecutor:
    """Runs jobs as Tune trials, at most as many at once as the cluster has room for."""

    name = "ray"

    def __init__(
        self,
        *,
        workers: int,
        device: str,
        max_concurrent: int | None,
        address: str | None,
        halving: bool = False,
    ) -> None:
        self.workers, self.halving = workers, halving
        self._scratch = Path(tempfile.mkdtemp(prefix="tcclip-ray-"))
        _start(address, self._scratch)
        resources = ray.cluster_resources()
        self.gpu = device == "cuda" or (device == "auto" and resources.get("GPU", 0) > 0)
        total = int(resources.get("GPU" if self.gpu else "CPU", 0))
        if not self.gpu and address is None:
            total = cpu_count()  # Ray was told of one more, for the drivers
        if total < workers:
            self.close()
            raise UserError(
                f"--workers-per-run {workers} needs as many {'GPUs' if self.gpu else 'CPUs'}, "
                f"and there {'is' if total == 1 else 'are'} {total}; ask for fewer, or for "
                "--device cpu"
            )
        # Without a cap the drivers of waiting trials take the CPUs their workers need.
        self.concurrent = min(total // workers, max_concurrent or total)

    def submit(self, jobs: Sequence[Job]) -> dict[str, str]:
        """See `Executor.submit`."""
        by_id = {job.spec.run_id: job.model_dump_json() for job in jobs}
        # Two sweeps on one cluster must not share a trainable's name.
        name = f"tcclip-{uuid.uuid4().hex[:8]}"
        settings = {
            "gpu": self.gpu,
            "workers": self.workers,
            "scratch": str(self._scratch / name),
        }

        def drive(config: dict[str, Any]) -> None:
            _trainer(by_id[config["run_id"]], settings).fit()

        drive.__name__ = name
        trainable: Any = drive
        if self.halving:
            trial = type(name, (_SearchTrial,), {})
            trainable = tune.with_parameters(trial, jobs=by_id, settings=settings)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": DRIVER_CPUS}),
            param_space={"run_id": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self.concurrent,
                scheduler=_halving(jobs) if self.halving else None,
            ),
            run_config=tune.RunConfig(name=name, storage_path=str(self._scratch), verbose=0),
        )
        with contextlib.redirect_stdout(io.StringIO()):  # Tune's banners; the sweep has a display
            results = tuner.fit()
        return {
            result.config["run_id"]: str(result.error)
            for result in results
            if result.error is not None and result.config is not None
        }

    def close(self) -> None:
        """Leave the cluster (stopping it if it was started here) and remove scratch files."""
        ray.shutdown()
        shutil.rmtree(self._scratch, ignore_errors=True)


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


def _trainer(job: str, settings: dict[str, Any]) -> ray.train.torch.TorchTrainer:
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
        run_config=ray.train.RunConfig(name=uuid.uuid4().hex, storage_path=settings["scratch"]),
    )


class _SearchTrial(tune.Trainable):  # type: ignore[misc]  # ray is not typed
    """A run that tells Tune every validation's top-1, and ends when Tune has seen enough.

    Tune stops a trial by ending its process, which would leave the workers' resources taken. So
    the run is asked to stop, by `stopped.json`, and ends by itself at its next step.
    """

    def setup(self, config: dict[str, Any], jobs: dict[str, str], settings: dict[str, Any]) -> None:
        """Start the run's Train job in a thread."""
        job = jobs[config["run_id"]]
        self._folder: RunFolder = Job.model_validate_json(job).folder
        self._told: list[tuple[int, float]] = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._fit, args=(job, settings), daemon=True)
        self._thread.start()

    def _fit(self, job: str, settings: dict[str, Any]) -> None:
        try:
            _trainer(job, settings).fit()
        except Exception as error:  # noqa: BLE001
            self._failure = error  # raised by the trial's own thread, in `step`

    def step(self) -> dict[str, Any]:
        """Wait for the next validation, or for the end of the run."""
        while self._thread.is_alive():
            news = validations(self._folder)[len(self._told) :]
            if news:
                self._told.append(news[0])
                return self._metrics()
            self._thread.join(REPORT_SECONDS)
        if self._failure is not None:
            raise self._failure
        return {**self._metrics(), "done": True}

    def _metrics(self) -> dict[str, Any]:
        epoch, top1 = self._told[-1] if self._told else (0, 0.0)
        return {"epoch": epoch, "top1": top1}

    def cleanup(self) -> None:
        """Called by Tune when it stops the trial: ask the run to end, and wait until it has."""
        if self._thread.is_alive():
            self._folder.stop(STOP_REASON, self._metrics())
            self._thread.join(STOP_SECONDS)


def _halving(jobs: Sequence[Job]) -> ASHAScheduler:
    """ASHA over validation top-1: at 1, 3, 9, ... epochs the best third goes on.

    A trial that reaches `max_t` is stopped too, and a run still has its tests to do after its
    last epoch: so `max_t` is one more than there are.
    """
    epochs = max(job.spec.train.epochs for job in jobs)
    return ASHAScheduler(
        time_attr="epoch", metric="top1", mode="max",
        max_t=epochs + 1, grace_period=1, reduction_factor=REDUCTION,
    )  # fmt: skip


def _work(config: dict[str, Any]) -> None:
    """What every worker of a run does."""
    from experiments.run import execute

    execute(Job.model_validate_json(config["job"]))
