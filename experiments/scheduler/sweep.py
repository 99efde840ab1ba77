"""A sweep: from the runs of a grid to finished runs. The same command again continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from experiments.datasets.paths import DataPaths
from experiments.grid.spec import RunSpec
from experiments.scheduler.executor import Executor
from experiments.scheduler.loop import Loop, Policy, Request
from experiments.store.ledger import Ledger
from results.reading.location import Location, location
from results.reading.run_folder import ENDED, State
from tcclip.config import Execution

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """How a sweep ended. `failed`: run_id -> why; `attempts`: run_id -> how often it was tried.

    `left`: run_id -> "paused" or "not started"; `halt`: why, where it was the sweep's decision;
    `signal`: the one that ended the sweep.
    """

    finished: tuple[str, ...]
    failed: dict[str, str]
    attempts: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    halt: str | None = None
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0 only if everything asked for is finished; 128 + the signal that left something."""
        if self.left and self.signal is not None:
            return 128 + self.signal
        return 1 if self.failed or self.left else 0


def sweep(
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

    `files`: sha256 -> file of the weights that `specs` name by their content. `watch` shows the
    sweep while it runs; `say` tells the user what matters. Runs another process is at are waited
    for, and what two sweeps want they share.
    """
    ledger = Ledger(location(out))
    request = Request(data_paths, execution, files or {})
    states = ledger.states(specs)
    ledger.repair(spec for spec in specs if states[spec.run_id] is State.FINISHED)
    loop = Loop(ledger, specs, states, request, policy or Policy(), say)
    if loop.runs:
        ledger.add([spec for spec in specs if spec.run_id in loop.runs])
        loop.run(make_executor, watch)
    # The files alone say what is finished, whatever was heard of it.
    states = ledger.states(specs)
    rest = [run_id for run_id, state in states.items() if state not in ENDED]
    return Summary(
        finished=tuple(run_id for run_id, state in states.items() if state is State.FINISHED),
        failed={run_id: loop.failed[run_id] for run_id in rest if run_id in loop.failed},
        attempts=loop.attempts(),
        left={run_id: loop.left(run_id) for run_id in rest if run_id not in loop.failed},
        halt=loop.halt(),
        signal=loop.stop.signal,
    )
