"""Whether runs could begin: asked before what they have already computed is deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from experiments.errors import MissingData
from experiments.files import exists
from experiments.job import Job
from experiments.ledger import Ledger
from experiments.lists import RunData
from tcclip.distributed import Ranks, current_ranks
from tcclip.model import build_model


def fault(jobs: Sequence[Job]) -> str | None:
    """The first of `jobs` that could not begin on this machine, and why; None if all could.

    Device, weights, annotation lists and videos are looked at as a run does; what several jobs
    have in common, once.
    """
    coming = {job.spec.run_id for job in jobs}
    known: set[str] = set()
    for job in jobs:
        try:
            _check(job, coming, known)
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it would end the run as well.
            return f"{job.spec.run_id}: {type(error).__name__}: {error}"
    return None


def _check(job: Job, coming: Collection[str], known: set[str]) -> None:
    ranks = current_ranks(job.execution.device)
    job.check_files()
    spec = job.spec
    same = {"train_list", "validation", "suites"}
    lists = f"{spec.train.epochs > 0} {spec.model_dump_json(include=same)}"
    model = f"{spec.train_list} {spec.model} {job.clip_weights}"
    if {lists, model} - known:
        data = RunData.load(job, Ranks(0, 1, ranks.device))
        build_model(
            spec.model, data.train.class_names, clip_weights=job.clip_weights, seed=spec.key.seed
        )
    known |= {lists, model}
    if spec.parent is not None and spec.parent not in coming:
        _check_parent(job, spec.parent)


def _check_parent(job: Job, parent: str) -> None:
    """One that is not finished is computed first; the weights of one that is must be there."""
    if Ledger(job.out).folder(parent).read_result() is None:
        return
    weights = job.initial_weights
    if weights is not None and not exists(weights):
        raise MissingData(f"the weights of its parent run are not there: {weights}")
