"""A search: its runs are trials of Ray Tune, and those that fall behind are stopped (ASHA)."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

# First: it sets what Ray reads when it is imported.
from experiments.store.attempt_records import record_stop

from experiments.scheduler.ray_train import RayExecutor, attempt_error  # isort: skip

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import ASHAScheduler

from experiments.cluster import RayPlace
from experiments.scheduler.executor import AttemptError
from experiments.worker.job import Job
from results.reading.location import exists, is_local, read_bytes
from results.reading.metrics_log import read_epochs
from results.reading.run_folder import RunFolder
from tcclip.config import Execution

#: How often a trial reads its run's metrics (in a store it downloads them).
REPORT_SECONDS, REMOTE_REPORT_SECONDS = 0.5, 15.0
#: One of so many trials continues at each of ASHA's stages.
REDUCTION = 3
#: How long a stopped run may take to end by itself.
STOP_SECONDS = 120.0
STOP_REASON = "the search: its validation top-1 fell behind the other trials' (ASHA)"
#: CPUs of a trial's driver, which only waits for its workers (Ray refuses 0).
DRIVER_CPUS = 0.01


class RaySearch(RayExecutor):
    """Collects the runs that are started, and computes them together as trials of one search."""

    spare_cpus = 1  # for the trials' drivers

    def __init__(self, execution: Execution, limit: int | None, place: RayPlace) -> None:
        super().__init__(execution, limit, place)
        self._jobs: list[Job] = []
        self._searching = False

    @property
    def slots(self) -> int:
        """No limit: ASHA needs all trials at the start, and Tune limits how many run at once."""
        return sys.maxsize

    def start(self, job: Job) -> None:
        self._jobs.append(job)

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        """Start a search of the runs collected so far; all end together, when the last one has."""
        if self._jobs and not self._searching:
            jobs, self._jobs, self._searching = self._jobs, [], True
            threading.Thread(target=self._fit, args=(jobs,), daemon=True).start()
        ended = super().ended(timeout)
        if ended:
            self._searching = False
        return ended

    def _fit(self, jobs: Sequence[Job]) -> None:
        try:
            ended = self._search(jobs)
        except Exception as error:  # noqa: BLE001
            # Tune itself failed: no trial has an error of its own.
            ended = {job.spec.run_id: AttemptError.of(error) for job in jobs}
        self._ended.put((ended, None))

    def _search(self, jobs: Sequence[Job]) -> dict[str, AttemptError | None]:
        by_id = {job.spec.run_id: job.model_dump_json() for job in jobs}
        # Two sweeps on one cluster must not share a trainable's name.
        name = f"tcclip-{uuid.uuid4().hex[:8]}"
        trainable = tune.with_parameters(
            type(name, (_Trial,), {}), jobs=by_id, trainer=self.trainer
        )
        # ASHA stops a trial that reaches `max_t` too, and a run still has its tests to do after its
        # last epoch: so `max_t` is one more than there are.
        epochs = max(job.spec.train.epochs for job in jobs)
        asha = ASHAScheduler(
            time_attr="epoch", metric="top1", mode="max",
            max_t=epochs + 1, grace_period=1, reduction_factor=REDUCTION,
        )  # fmt: skip
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": DRIVER_CPUS}),
            param_space={"run_id": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(max_concurrent_trials=super().slots, scheduler=asha),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self.scratch),
                verbose=0,
                # By default Tune asks a trial for a checkpoint when it ends: runs keep their own.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        # Tune prints over the sweep's display, and logs what trials raise, which the sweep says.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        with contextlib.redirect_stdout(io.StringIO()):
            results = tuner.fit()
        ended: dict[str, AttemptError | None] = dict.fromkeys(by_id)
        for result in results:
            if result.error is not None and result.config is not None:
                cause = _cause(result.error)
                ended[result.config["run_id"]] = attempt_error(cause)
                self.set_aside(cause)
        return ended


def _cause(error: Exception) -> Exception:
    """The exception that a trial raised, without Ray's wrappers."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        error = error.cause
    return error


class _Trial(tune.Trainable):  # type: ignore[misc]  # ray is not typed
    """A run that reports the top-1 of every validation to Tune, and ends when Tune stops it.

    Tune would only end the trial's process: so `stopped.json` asks the run to end at its next step.
    """

    def setup(
        self, config: dict[str, Any], jobs: dict[str, str], trainer: Callable[[str], Any]
    ) -> None:
        """Start the run's Train job in a thread."""
        job = jobs[config["run_id"]]
        self._folder: RunFolder = Job.model_validate_json(job).folder
        self._reported, self._metrics = 0, {"epoch": 0, "top1": 0.0}
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._fit, args=(trainer(job),), daemon=True)
        if not exists(self._folder.pause_request):  # else the sweep is stopping
            self._thread.start()

    def _fit(self, trainer: Any) -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001
            self._failure = error  # raised by the trial's own thread, in `step`

    def step(self) -> dict[str, Any]:
        """Tune's next result: waits for the next validation, or for the end of the run."""
        while self._thread.is_alive():
            epochs, _ = read_epochs(read_bytes(self._folder.metrics) or b"")
            validated = [one for one in epochs if "top1" in one]
            if len(validated) > self._reported:
                new = validated[self._reported]
                self._reported += 1
                self._metrics = {"epoch": int(new["epoch"]), "top1": float(new["top1"])}
                return self._metrics
            local = is_local(self._folder.path)
            self._thread.join(REPORT_SECONDS if local else REMOTE_REPORT_SECONDS)
        if self._failure is not None:
            raise self._failure
        return {**self._metrics, "done": True}

    def cleanup(self) -> None:
        """Called by Tune when it stops the trial: ask the run to end, and wait until it has."""
        if self._thread.is_alive():
            record_stop(self._folder, STOP_REASON, self._metrics)
            self._thread.join(STOP_SECONDS)
