"""What the CLI's commands on runs do, one function a command; each returns what to show or exit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import repeat
from pathlib import Path

from rich.console import Console

from experiments.datasets.paths import DataPaths
from experiments.errors import UserError, user_errors
from experiments.grid.spec import RunSpec
from experiments.monitor.display import Display
from experiments.monitor.table import FORMATS as FORMATS
from experiments.scheduler.executor import EXECUTORS, Executor, check_address, make_executor
from experiments.scheduler.loop import Policy
from experiments.scheduler.sweep import Summary
from experiments.scheduler.sweep import sweep as run_sweep
from experiments.store.files import remove
from experiments.store.ledger import Ledger, matching
from experiments.tracking.ui import mirrored
from experiments.worker.job import Job
from results.reading.location import Location
from results.reading.run_folder import ENDED, State
from tcclip.config import Execution

#: So many runs with a fault are named.
NAMED = 10


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
    stop the trials of a search that fall behind. `policy`: what failures lead to.
    """
    ledger = Ledger(out)

    def start() -> Executor:
        return make_executor(
            executor,
            workers=execution.workers,
            device=execution.device,
            max_concurrent=max_concurrent,
            address=address,
            asha=asha,
        )

    def job(spec: RunSpec) -> Job:
        given = dict(files or {})
        return Job(spec=spec, out=out, data_paths=data_paths, execution=execution, files=given)

    def say(text: str) -> None:
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    make: Callable[[], Executor] = start
    with ExitStack() as stack:
        states = {} if rerun is None else ledger.states(specs)
        again = [] if rerun is None else matching(states, rerun)
        if again:
            started = stack.enter_context(closing(start()))
            make = repeat(started).__next__
            say(f"looking whether {len(again)} runs could begin again")
            jobs = [job(spec) for spec in specs if spec.run_id in again]
            for line in _forget(ledger, started, jobs, states):
                console.print(line, highlight=False, soft_wrap=True)
        left = _to_do(ledger, specs, asha)
        console.print(f"{len(specs)} runs, {left} to do, in {out}", highlight=False)
        if left:
            # Outside of the sweep: when it ends, the executor has stopped its workers.
            stack.enter_context(mirrored(ledger, specs, console))
        return run_sweep(
            specs,
            out=out,
            data_paths=data_paths,
            execution=execution,
            make_executor=make,
            files=files,
            watch=lambda ledger: Display(ledger, [spec.run_id for spec in specs], console),
            policy=policy,
            say=say,
        )


def _forget(
    ledger: Ledger, executor: Executor, jobs: Sequence[Job], states: Mapping[str, State]
) -> list[str]:
    """Delete what there is of the runs of `jobs`: a line on each. UserError if one of them could
    not begin again, and then nothing is deleted."""
    found = executor.faults(jobs)
    if found:
        named = [f"  {run_id}: {why}" for run_id, why in list(found.items())[:NAMED]]
        more = [f"  and {len(found) - NAMED} more"] if len(found) > NAMED else []
        raise UserError(
            f"--rerun: nothing was deleted, since {len(found)} of {len(jobs)} runs could not begin "
            "again; see to it, or name other runs (failed ones are tried again without --rerun, "
            "too)\n" + "\n".join(named + more)
        )
    run_ids = [job.spec.run_id for job in jobs]
    # Another sweep may finish a failed run while this one looks.
    unfinished = [run_id for run_id in run_ids if states[run_id] is not State.FINISHED]
    kept = ledger.forget(run_ids, unfinished)
    return [
        f"{run_id}: {'finished meanwhile, and kept' if run_id in kept else 'forgotten'}"
        for run_id in run_ids
    ]


def _to_do(ledger: Ledger, specs: Sequence[RunSpec], asha: bool) -> int:
    """How many of `specs` are to be computed; but for a search, also what one gave up before."""
    states = ledger.states(specs)
    for run_id, state in states.items():
        if state is State.STOPPED and not asha:
            remove(ledger.folder(run_id).stopped)
            states[run_id] = State.STALE
    return sum(state not in ENDED for state in states.values())


def check(
    specs: Sequence[RunSpec], execution: Execution, executor: str, address: str | None
) -> None:
    """Before anything is written: UserError if `specs` cannot be computed like this.

    Micro-batch x workers x accumulation has to make the global batch, and a Ray cluster that is
    named has to answer: Ray itself would wait for it for minutes.
    """
    if executor not in EXECUTORS:
        raise UserError(f"--executor {executor!r}; allowed: {', '.join(EXECUTORS)}")
    with user_errors():
        for spec in specs:
            if spec.train.epochs:
                execution.chunk_size(spec.train)
    if executor == "ray" and address is not None:
        check_address(address)
