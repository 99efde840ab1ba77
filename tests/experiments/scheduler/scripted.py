"""An executor that computes nothing: a script says how each attempt at a run ends."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from experiments.datasets.paths import DataPaths
from experiments.errors import RunPaused, WorkerDied
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.scheduler.executor import AttemptError
from experiments.scheduler.summary import Summary
from experiments.scheduler.sweep import compute_missing
from experiments.store.ledger import Ledger
from experiments.worker.job import Job
from tcclip.config import Execution
from tests.builders import make_result

#: What an attempt comes to: None is a finished run.
End = AttemptError | None
LOST = AttemptError.of(WorkerDied("rank 0 was killed"))
WRONG = AttemptError.of(ValueError("3 is not 4"))
PAUSED = AttemptError.of(RunPaused("paused after step 3"))


def finish(job: Job) -> None:
    """What a worker leaves that came to the end."""
    job.folder.result.write_text(make_result(job.spec).model_dump_json())
    job.folder.failure.unlink(missing_ok=True)


class Scripted:
    """Ends one attempt at a call of `ended`, as the run's script says; without one it finishes."""

    def __init__(self, slots: int = 1, **script: list[End]) -> None:
        self.slots = slots
        self.script = script
        self.jobs: list[Job] = []
        self.started: list[Job] = []
        self.most = 0
        self.closed = False

    def start(self, job: Job) -> None:
        self.jobs.append(job)
        self.started.append(job)
        self.most = max(self.most, len(self.jobs))

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        if not self.jobs:
            return {}
        job = self.jobs.pop(0)
        ends = self.script.get(name(job.spec), [])
        end = ends.pop(0) if ends else None
        if end is None:
            finish(job)
        return {job.spec.run_id: end}

    def close(self) -> None:
        self.closed = True


def name(spec: RunSpec) -> str:
    """Short name of a run within a test's grid: model and seed."""
    return f"{spec.key.model}{spec.key.seed}"


def grid(seeds: int, *models: str) -> list[RunSpec]:
    """Runs of the demo: `seeds` of each model, tc_clip if none is given."""
    return expand(
        Grid("zero_shot", demo=True, models=models or ("tc_clip",), seeds=tuple(range(seeds)))
    )


def run(
    specs: list[RunSpec],
    out: Path,
    executor: Scripted,
    retries: int = 2,
    fail_fast: bool = False,
    say: Callable[[str], None] = lambda text: None,
    execution: Execution | None = None,
    make_executor: Callable[[], Scripted] | None = None,
) -> Summary:
    """Sweep `specs` with `executor`."""
    return compute_missing(
        Ledger(out), specs, execution or Execution(),
        make_job=partial(Job, out=out, data_paths=DataPaths(cache=out)),
        make_executor=make_executor or (lambda: executor), display=nullcontext(),
        retries=retries, fail_fast=fail_fast, say=say,
    )  # fmt: skip


def by_name(specs: list[RunSpec], runs: dict[str, str]) -> dict[str, str]:
    """What a summary says of runs, by their short names."""
    return {name(spec): runs[spec.run_id] for spec in specs if spec.run_id in runs}


def attempt(out: Path, spec: RunSpec) -> int:
    """The attempt the run's failure.json counts; 0 without."""
    failure = Ledger(out).folder(spec.run_id).read_failure()
    return 0 if failure is None else failure.attempt
