"""A sweep: from the runs of a grid to finished runs. The same command again continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

from rich.console import Console

from experiments.cluster import RayPlace, find_ray
from experiments.datasets.paths import DataPaths
from experiments.errors import StorageError, UserError
from experiments.grid.options import ExecutionOptions
from experiments.grid.request import RunPlan
from experiments.grid.spec import RunSpec
from experiments.monitor.display import Display, statuses
from experiments.scheduler.executor import Executor, LocalExecutor
from experiments.scheduler.loop import Loop
from experiments.scheduler.signals import TimeLimit, seconds, time_limit
from experiments.scheduler.summary import Summary
from experiments.store.files import remove
from experiments.store.ledger import Ledger, matching
from experiments.store.rerun import back_up, backup_folder, restore_unless_begun
from experiments.tracking import default_uri
from experiments.tracking.sync_thread import SyncThread
from experiments.worker.job import Job
from results.reading.location import Location, is_local
from results.reading.run_folder import ENDED, State
from tcclip.config import Execution

log = logging.getLogger(__name__)

EXECUTORS = ("ray", "local")


def check(plan: RunPlan, options: ExecutionOptions, execution: Execution) -> RayPlace | None:
    """Where Ray is, if it is to compute the runs; called before anything is written.

    UserError if the runs cannot be computed as asked.
    """
    if options.executor not in EXECUTORS:
        raise UserError(f"--executor {options.executor!r}; allowed: {', '.join(EXECUTORS)}")
    _check_share(options, execution)
    if options.executor == "local" and execution.workers > 1:
        raise UserError(
            f"--executor local computes in this process: no place for {execution.workers} "
            "workers; use --executor ray"
        )
    if options.time_limit is not None:
        seconds(options.time_limit)
    if options.executor == "local" and plan.searched:
        raise UserError("--search stops trials early with Ray Tune; use --executor ray")
    return find_ray(options.address) if options.executor == "ray" else None


def _check_share(options: ExecutionOptions, execution: Execution) -> None:
    """UserError if runs cannot share a GPU as asked."""
    given = f"--gpus-per-worker {execution.gpus_per_worker:g}"
    if execution.gpus_per_worker == 1:
        return
    if execution.device == "cpu":
        raise UserError(f"{given}: --device cpu has no GPU to share; leave one of them out")
    if options.executor == "local":
        raise UserError(f"{given}: --executor local computes one run at a time; use --executor ray")
    if execution.workers > 1:
        # NCCL refuses two ranks on one GPU.
        raise UserError(
            f"{given} with --workers-per-run {execution.workers}: a run's workers cannot share a "
            "GPU; leave one of them out"
        )


def sweep(
    plan: RunPlan,
    options: ExecutionOptions,
    execution: Execution,
    data_paths: DataPaths,
    out: Location,
    console: Console,
    place: RayPlace | None,
) -> Summary:
    """Compute what is missing of the runs, shown on `console` and mirrored to MLflow.

    `place`: where Ray is; None: the runs are computed in this process.
    """
    if place is not None:
        place = place.tried()
        console.print(str(place), highlight=False, soft_wrap=True, markup=False)
    ledger, specs = Ledger(out), plan.specs
    run_ids = [spec.run_id for spec in specs]

    def say(text: str) -> None:
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    names = {} if options.rerun is None else _begin_rerun(ledger, specs, options.rerun, say)
    left = _count_left(ledger, specs, plan.searched)
    limit = time_limit(options.time_limit, say, remote=not is_local(out)) if left else None
    lines = [f"{len(specs)} runs, {left} to do, in {out}" + (f"; {limit}" if limit else "")]
    lines += [data_paths.cache_note(execution.cache_size)] if left else []
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
    thread = SyncThread(ledger, default_uri(out), run_ids, say)
    used = {one.dataset for spec in specs if left for one, _ in spec.lists}
    # The mirror stops last: by then no worker writes any more. Ray starts while videos are made.
    with thread if left else nullcontext(), data_paths.built_meanwhile(used):
        summary = compute_missing(
            ledger,
            specs,
            execution,
            make_job=partial(Job, out=out, data_paths=data_paths, files=dict(plan.grid.files)),
            make_executor=lambda: _make_executor(
                options, execution, place, left, asha=plan.searched
            ),
            display=Display(lambda: statuses(ledger, run_ids), console),
            retries=options.retries,
            fail_fast=options.fail_fast,
            say=say,
            limit=limit,
            names={**names, **plan.names},
        )
    return replace(summary, mlflow_failed=thread.gave_up, computed=left > 0)


def _make_executor(
    options: ExecutionOptions,
    execution: Execution,
    place: RayPlace | None,
    runs: int,
    *,
    asha: bool,
) -> Executor:
    """The executor asked for, for so many runs. `asha`: stop those that fall behind the others
    (Ray Tune)."""
    if place is None:
        return LocalExecutor()
    place.prepare()
    if asha:
        from experiments.scheduler.ray_tune import RaySearch as Ray
    else:
        from experiments.scheduler.ray_train import RayExecutor as Ray  # type: ignore[assignment]
    limit = max(1, min(runs, options.max_concurrent or runs))
    return Ray(execution, limit=limit, place=place)


def _begin_rerun(
    ledger: Ledger, specs: Sequence[RunSpec], rerun: str, say: Callable[[str], None]
) -> dict[str, str]:
    """Back up the runs that `rerun` names; until they have begun again nothing is deleted.

    The names of their rows, by run id.
    """
    states = ledger.states(specs)
    chosen = matching(states, rerun)
    # Another sweep may finish a failed run in the meantime.
    unfinished = [run_id for run_id in chosen if states[run_id] is not State.FINISHED]
    names = {run_id: ledger.folder(run_id).read_name() for run_id in chosen}
    kept = back_up(ledger, chosen, unfinished)
    for run_id in kept:
        say(f"{run_id}: finished meanwhile, and kept")
    if len(chosen) > len(kept):
        say(
            f"{len(chosen) - len(kept)} runs start from the beginning; what they held stays in "
            f"{backup_folder(ledger)} until they have begun"
        )
    return {run_id: name for run_id, name in names.items() if name is not None}


def _count_left(ledger: Ledger, specs: Sequence[RunSpec], asha: bool) -> int:
    """How many of `specs` are to be computed; without ASHA, also those a search stopped before."""
    states = ledger.states(specs)
    for run_id, state in states.items():
        if state is State.STOPPED and not asha:
            remove(ledger.folder(run_id).stopped)
            states[run_id] = State.STALE
    return sum(state not in ENDED for state in states.values())


def compute_missing(
    ledger: Ledger,
    specs: Sequence[RunSpec],
    execution: Execution,
    *,
    make_job: Callable[..., Job],
    make_executor: Callable[[], Executor],
    display: AbstractContextManager[object],
    retries: int,
    fail_fast: bool = False,
    say: Callable[[str], None] = log.info,
    limit: TimeLimit | None = None,
    names: Mapping[str, str] = {},
) -> Summary:
    """Compute what is outstanding of `specs`, parents before children.

    `make_job`: a `Job` from what a run has of its own. `display` shows the sweep while it runs;
    `say` tells the user what matters. `names`: run id -> the title of its row. Runs that another
    process works on are waited for.
    """
    states = ledger.states(specs)
    ledger.repair(spec for spec in specs if states[spec.run_id] is State.FINISHED)
    loop = Loop(ledger, specs, states, execution, make_job, retries, fail_fast, say, limit)
    try:
        if loop.runs:
            ledger.add([spec for spec in specs if spec.run_id in loop.runs])
        ledger.name({run_id: name for run_id, name in names.items() if run_id in states})
        if loop.runs:
            loop.run(make_executor, display)
    finally:
        restored = _end_rerun(loop, say)
    # The files alone say what is finished, whatever the executor reported.
    states = ledger.states(specs)
    ended = [run_id for run_id in states if states[run_id] in ENDED and run_id not in restored]
    failed = {run_id: loop.failed[run_id] for run_id in states if run_id in loop.failed}
    left = states.keys() - ended - failed.keys()
    return Summary(
        finished=tuple(run_id for run_id in ended if states[run_id] is State.FINISHED),
        failed={run_id: cause for run_id, cause in failed.items() if run_id not in ended},
        attempts={run_id: loop.runs[run_id].failures for run_id in loop.failed},
        left={run_id: "paused" if run_id in loop.paused else "not started" for run_id in left},
        halt=loop.halt(),
        signal=loop.stop.signal,
        restored=frozenset(restored),
        broken_gpus=dict(loop.broken_gpus),
    )


def _end_rerun(loop: Loop, say: Callable[[str], None]) -> set[str]:
    """Put back the runs of a rerun that could not begin again; their ids. Not after a pause."""
    restored, backups = set(), sorted(loop.backups)
    if backups and loop.stop.from_outside:
        say(
            f"{len(backups)} runs have not begun again; what they held stays in "
            f"{backup_folder(loop.ledger)} until they do"
        )
        return set()
    for run_id in backups:
        try:
            if restore_unless_begun(loop.ledger, run_id):
                restored.add(run_id)
        except StorageError as error:
            say(f"{run_id}: what it held stays in {backup_folder(loop.ledger)}: {error}")
    if restored:
        say(
            f"{len(restored)} runs could not begin again and are as they were before; to try "
            "again, name them with --rerun"
        )
    return restored
