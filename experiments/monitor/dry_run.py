"""`--dry-run`: the runs of a grid with their states, dependencies and costs; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from experiments.grid.spec import ListSpec, RunSpec
from experiments.monitor.cost import ASSUMPTION, Cost, cost, kind, measured_hours
from experiments.monitor.status_table import count_states
from experiments.monitor.table import print_json, print_rows
from experiments.store.ledger import Ledger, matching
from results.reading.location import Location
from results.reading.run_folder import State


@dataclass(frozen=True)
class PlannedRun:
    """One row of a dry run. `again`: it would be run from the beginning."""

    run_id: str
    state: State
    after: str | None
    cost: Cost
    overrides: tuple[str, ...] = ()
    again: bool = False


def dry_run(
    specs: Sequence[RunSpec],
    out: Location,
    list_length: Callable[[ListSpec], int | None],
    rerun: str | None = None,
) -> list[PlannedRun]:
    """The rows of a grid. Runs that differ in their seed alone cost the same.

    `list_length`: how many videos a list has, None where it is not on this machine. `rerun`: the
    argument of `--rerun`; UserError if it matches nothing.
    """
    ledger = Ledger(out)
    done = ledger.finished(ledger.folders())
    states = ledger.states([spec for spec in specs if spec.run_id not in done])
    states |= {spec.run_id: State.FINISHED for spec in specs if spec.run_id in done}
    measured = measured_hours(done.values())
    again = set() if rerun is None else set(matching(states, rerun))
    alike = {kind(spec.key): spec for spec in specs}
    costs = {key: cost(one, measured, list_length(one.train_list)) for key, one in alike.items()}
    return [
        PlannedRun(
            run_id=spec.run_id,
            state=states[spec.run_id],
            after=spec.parent,
            cost=costs[kind(spec.key)],
            overrides=spec.key.overrides,
            again=spec.run_id in again and states[spec.run_id] is not State.PLANNED,
        )
        for spec in specs
    ]


def print_plan(rows: Sequence[PlannedRun], format: str) -> None:
    """Print a dry run as a table, markdown or JSON, with its totals."""
    if format == "json":
        print_json([asdict(row) for row in rows])
        return
    head = ["run", "state", "after", "train videos", "steps", "test videos", "GPU-h", "", "GB"]
    cells = [_cells(row) for row in rows]
    if any(row.overrides for row in rows):
        head.append("settings")
        for cell, row in zip(cells, rows, strict=True):
            cell.append(" ".join(row.overrides))
    print_rows(count_states([row.state for row in rows]), head, cells, format, left=3)
    again = sum(row.again for row in rows)
    if again:
        print(f"--rerun: {again} of these runs would be run again, from the beginning")
    print(f"{_totals(rows)}\n{ASSUMPTION}")


def _totals(rows: Sequence[PlannedRun]) -> str:
    """What is left to compute."""
    left = [row.cost for row in rows if row.again or row.state is not State.FINISHED]
    hours = sum(one.gpu_hours or 0.0 for one in left)
    unknown = sum(one.gpu_hours is None for one in left)
    more = f" (and {unknown} runs whose training list is not at hand)" if unknown else ""
    disk = sum(one.gigabytes for one in left)
    return f"left: {len(left)} runs, {hours:.1f} GPU-hours{more}, {disk:.1f} GB"


def _cells(row: PlannedRun) -> list[str]:
    one = row.cost
    hours = "–" if one.gpu_hours is None else f"{one.gpu_hours:.2f}"
    counts = ["–" if n is None else str(n) for n in (one.videos, one.steps, one.eval_videos)]
    after = "" if row.after is None else row.after.rpartition("-")[2]
    state = f"{row.state}, again" if row.again else str(row.state)
    return [row.run_id, state, after, *counts, hours, one.basis, f"{one.gigabytes:.1f}"]
