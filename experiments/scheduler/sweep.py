"""A sweep: from the runs of a grid to finished runs. The same command again continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from experiments.datasets.paths import DataPaths
from experiments.errors import StorageError, UserError, user_errors
from experiments.grid.spec import RunSpec
from experiments.monitor.display import Display
from experiments.scheduler.executor import Executor, LocalExecutor, check_address
from experiments.scheduler.loop import Loop, Policy
from experiments.scheduler.summary import Summary
from experiments.store.files import remove
from experiments.store.ledger import Ledger, matching
from experiments.store.rerun import back_up, backup_folder, restore_unless_begun
from experiments.tracking import default_uri
from experiments.tracking.sync_thread import SyncThread
from experiments.worker.job import Job
from results.reading.location import Location
from results.reading.run_folder import ENDED, State
from tcclip.config import Execution

log = logging.getLogger(__name__)

#: The names `make_executor` knows.
EXECUTORS = ("ray", "local")


def check(
    specs: Sequence[RunSpec], execution: Execution, executor: str, address: str | None
) -> None:
    """UserError if `specs` cannot be computed like this; called before anything is written."""
    if executor not in EXECUTORS:
        raise UserError(f"--executor {executor!r}; allowed: {', '.join(EXECUTORS)}")
    if executor == "local" and execution.workers > 1:
        raise UserError(
            f"--executor local computes in this process: no place for {execution.workers} "
            "workers; use --executor ray"
        )
    with user_errors():
        for spec in specs:
            if spec.train.epochs:
                execution.chunk_size(spec.train)
    if executor == "ray" and address is not None:
        check_address(address)


def sweep(
    specs: Sequence[RunSpec],
    *,
    out: Location,
    data_paths: DataPaths,
    execution: Execution,
    executor: str,
    address: str | None,
    max_concurrent: int | None,
    rerun: str | None,
    console: Console,
    files: Mapping[str, Path] | None = None,
    asha: bool = False,
    policy: Policy | None = None,
) -> Summary:
    """Compute what is missing of `specs`, shown on `console` and mirrored to MLflow.

    `files`: sha256 -> file of the weights that `specs` name by their content. `asha`: let ASHA
    stop the trials of a search that fall behind. `policy`: what to do about failures.
    """
    ledger = Ledger(out)

    def say(text: str) -> None:
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    if rerun is not None:
        _begin_rerun(ledger, specs, rerun, say)
    left = _count_left(ledger, specs, asha)
    console.print(f"{len(specs)} runs, {left} to do, in {out}", highlight=False)
    thread = SyncThread(ledger, default_uri(out), [spec.run_id for spec in specs], say)
    # The mirror stops last: by then no worker writes any more.
    with thread if left else nullcontext():
        summary = compute_missing(
            specs,
            out=out,
            data_paths=data_paths,
            execution=execution,
            make_executor=lambda: make_executor(executor, execution, max_concurrent, address, asha),
            watch=lambda ledger: Display(ledger, [spec.run_id for spec in specs], console),
            files=files,
            policy=policy,
            say=say,
        )
    return replace(summary, mlflow_failed=thread.gave_up)


def make_executor(
    name: str, execution: Execution, max_concurrent: int | None, address: str | None, asha: bool
) -> Executor:
    """The executor called `name`. `asha`: stop runs that fall behind the others (Ray Tune)."""
    if name == "local" and asha:
        raise UserError("--search stops trials early with Ray Tune; use --executor ray")
    if name == "local":
        return LocalExecutor()
    if asha:
        from experiments.scheduler.ray_tune import RaySearch as Ray
    else:
        from experiments.scheduler.ray_train import RayExecutor as Ray  # type: ignore[assignment]
    return Ray(
        workers=execution.workers, device=execution.device, limit=max_concurrent, address=address
    )


def _begin_rerun(
    ledger: Ledger, specs: Sequence[RunSpec], rerun: str, say: Callable[[str], None]
) -> None:
    """Back up the runs that `rerun` names; until they have begun again nothing is deleted."""
    states = ledger.states(specs)
    chosen = matching(states, rerun)
    # Another sweep may finish a failed run in the meantime.
    unfinished = [run_id for run_id in chosen if states[run_id] is not State.FINISHED]
    kept = back_up(ledger, chosen, unfinished)
    for run_id in kept:
        say(f"{run_id}: finished meanwhile, and kept")
    if len(chosen) > len(kept):
        say(
            f"{len(chosen) - len(kept)} runs start from the beginning; what they held stays in "
            f"{backup_folder(ledger)} until they have begun"
        )


def _count_left(ledger: Ledger, specs: Sequence[RunSpec], asha: bool) -> int:
    """How many of `specs` are to be computed; without ASHA, also those a search stopped before."""
    states = ledger.states(specs)
    for run_id, state in states.items():
        if state is State.STOPPED and not asha:
            remove(ledger.folder(run_id).stopped)
            states[run_id] = State.STALE
    return sum(state not in ENDED for state in states.values())


def compute_missing(
    specs: Sequence[RunSpec],
    *,
    out: Location,
    data_paths: DataPaths,
    execution: Execution,
    make_executor: Callable[[], Executor],
    watch: Callable[[Ledger], AbstractContextManager[object]],
    files: Mapping[str, Path] | None = None,
    policy: Policy | None = None,
    say: Callable[[str], None] = log.info,
) -> Summary:
    """Compute what is outstanding of `specs`, parents before children.

    `watch` shows the sweep while it runs; `say` tells the user what matters. Runs that another
    process works on are waited for.
    """
    ledger = Ledger(out)
    states = ledger.states(specs)
    ledger.repair(spec for spec in specs if states[spec.run_id] is State.FINISHED)
    make_job = partial(Job, out=out, data_paths=data_paths, files=dict(files or {}))
    loop = Loop(ledger, specs, states, execution, make_job, policy or Policy(), say)
    try:
        if loop.runs:
            ledger.add([spec for spec in specs if spec.run_id in loop.runs])
            loop.run(make_executor, watch)
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
    )


def _end_rerun(loop: Loop, say: Callable[[str], None]) -> set[str]:
    """Put back the runs of a rerun that could not begin again; their ids. Not after a signal."""
    restored, backups = set(), sorted(loop.backups)
    if backups and loop.stop.signal is not None:
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
