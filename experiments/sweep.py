"""A sweep: from the runs of a grid to finished runs. The same command again continues."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import LeaseHeld, UserError
from experiments.executor import Executor
from experiments.files import Location, location
from experiments.job import Job
from experiments.ledger import ENDED, Ledger, State
from experiments.roots import Roots
from experiments.spec import RunSpec
from results.records import Failure
from tcclip.config import Execution

#: How often the folders are looked at while somebody else computes one of our runs.
WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Summary:
    """How a sweep ended: what is finished, what failed and why."""

    finished: tuple[str, ...]
    failed: dict[str, str]

    @property
    def exit_code(self) -> int:
        """0 only if everything asked for is finished."""
        return 1 if self.failed else 0


def outstanding(ledger: Ledger, specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The runs of `specs` without a valid result, and not stopped by a search."""
    states = ledger.states(specs)
    return [spec for spec in specs if states[spec.run_id] not in ENDED]


def forget(ledger: Ledger, specs: Sequence[RunSpec], which: str) -> list[str]:
    """For `--rerun`: delete the runs `which` names ("failed", "all", or a run id pattern).

    UserError if a pattern matches nothing.
    """
    states = ledger.states(specs)
    if which == "failed":
        chosen = [run_id for run_id, state in states.items() if state is State.FAILED]
    elif which == "all":
        chosen = [run_id for run_id, state in states.items() if state is not State.PLANNED]
    else:
        chosen = fnmatch.filter(states, which)
        if not chosen:
            raise UserError(f"--rerun {which!r} matches none of: {', '.join(states)}")
    for run_id in chosen:
        ledger.forget(run_id)
    return chosen


def sweep(
    specs: Sequence[RunSpec],
    *,
    out: Location,
    roots: Roots,
    execution: Execution,
    make_executor: Callable[[], Executor],
    watch: Callable[[Ledger], AbstractContextManager[object]],
    checkpoint: Path | None = None,
) -> Summary:
    """Compute what is outstanding of `specs`, parents before children.

    `watch` shows and mirrors the sweep while it runs. A run that fails is not tried again by
    this call; runs another process is at are waited for.
    """
    ledger = Ledger(location(out))
    failed: dict[str, str] = {}
    if outstanding(ledger, specs):
        ledger.enter(specs)
        executor = make_executor()
        try:
            with watch(ledger):
                while waves_left(ledger, specs, failed):
                    ready = _ready(ledger, specs, failed)
                    jobs = [
                        Job(
                            spec=spec,
                            out=ledger.out,
                            roots=roots,
                            execution=execution,
                            checkpoint=checkpoint,
                        )
                        for spec in ready
                    ]
                    if not jobs:
                        time.sleep(WAIT_SECONDS)
                        continue
                    before = {s.run_id: ledger.folder(s.run_id).read_failure() for s in ready}
                    failed |= _collect(ledger, before, executor.submit(jobs))
        finally:
            executor.close()
    states = ledger.states(specs)
    finished = tuple(run_id for run_id, state in states.items() if state is State.FINISHED)
    return Summary(finished, failed)


def waves_left(ledger: Ledger, specs: Sequence[RunSpec], failed: dict[str, str]) -> bool:
    """Whether anything is left to run or to wait for; children of a failed run fail here."""
    left = False
    for spec in outstanding(ledger, specs):
        if spec.parent in failed and spec.run_id not in failed:
            failed[spec.run_id] = f"its parent run {spec.parent} failed"
        left = left or spec.run_id not in failed
    return left


def _ready(ledger: Ledger, specs: Sequence[RunSpec], failed: dict[str, str]) -> list[RunSpec]:
    """Runs nobody is at, whose parent is finished."""
    states = ledger.states(specs)
    return [
        spec
        for spec in specs
        if states[spec.run_id] in (State.PLANNED, State.STALE, State.FAILED)
        and spec.run_id not in failed
        and (spec.parent is None or states[spec.parent] is State.FINISHED)
    ]


def _collect(
    ledger: Ledger, before: dict[str, Failure | None], errors: dict[str, str]
) -> dict[str, str]:
    """What failed of a submitted batch: run_id -> cause. A death without record gets one.

    `before`: the failures the runs had when they were submitted; those are not this attempt's.
    """
    failed = {}
    for run_id, earlier in before.items():
        folder = ledger.folder(run_id)
        state = folder.state()
        # Somebody else's run is waited for; one of ours that died may look alive a while longer.
        ours_died = run_id in errors and LeaseHeld.__name__ not in errors[run_id]
        if state in ENDED or (state is State.RUNNING and not ours_died):
            continue
        failure = folder.read_failure()
        if failure is None or failure == earlier:
            message = errors.get(run_id, "its worker died without a word")
            failure = folder.fail("WorkerDied", message, message)
        failed[run_id] = failure.message
    return failed
