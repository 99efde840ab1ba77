"""Whether runs could begin: asked before what they have already computed is deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experiments.errors import MissingData
from experiments.store.ledger import Ledger
from experiments.worker.data import RunData
from experiments.worker.job import Job
from results.reading.location import exists, local_copy
from tcclip.distributed import Ranks, current_ranks
from tcclip.model import build_model
from tcclip.model.checkpoints import read_state


def faults(jobs: Sequence[Job]) -> dict[str, str]:
    """Run id -> why, of those `jobs` that could not begin on this machine.

    Device, weights, annotation lists and videos are looked at as a run does; what several jobs
    have in common, once.
    """
    coming = {job.spec.run_id for job in jobs}
    inputs: dict[str, str | None] = {}
    found = {}
    for job in jobs:
        same = _inputs(job)
        if same not in inputs:
            inputs[same] = _why(_check_inputs, job)
        why = inputs[same]
        if why is None and job.spec.parent not in coming:
            why = _why(_check_parent, job)
        if why is not None:
            found[job.spec.run_id] = why
    return found


def _why(check: Callable[[Job], None], job: Job) -> str | None:
    try:
        check(job)
    except Exception as error:  # noqa: BLE001
        # Whatever it is, it would end the run as well.
        return f"{type(error).__name__}: {error}"
    return None


def _inputs(job: Job) -> str:
    """What tells a job's inputs from another's: all of the run but its key and how it trains."""
    fields = {"model", "train_list", "validation", "suites", "checkpoint"}
    chosen = job.spec.model_dump_json(include=fields)
    return f"{chosen} {job.spec.train.clip_weights} {job.spec.train.epochs > 0}"


def _check_inputs(job: Job) -> None:
    ranks = current_ranks(job.execution.device)
    job.check_files()
    data = RunData.load(job, Ranks(0, 1, ranks.device))
    build_model(
        job.spec.model, data.train.class_names,
        clip_weights=job.clip_weights, seed=job.spec.key.seed,
    )  # fmt: skip


def _check_parent(job: Job) -> None:
    """A parent that is not finished is computed first; one that is must have its weights."""
    parent = job.spec.parent
    if parent is None or Ledger(job.out).folder(parent).read_result() is None:
        return
    weights = job.initial_weights
    if weights is None:
        return
    if not exists(weights):
        raise MissingData(f"the weights of its parent run are not there: {weights}")
    with local_copy(weights) as copy:
        read_state(copy)
