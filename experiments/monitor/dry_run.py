"""`--dry-run`: the runs of a grid with their states, dependencies and costs; nothing is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from experiments.grid.spec import ListSpec, RunSpec
from experiments.monitor.cost import (
    Cost,
    cost,
    decoding_processes,
    kind,
    measured_hours,
    with_decoding,
)
from experiments.monitor.decodes import Decodes, decode_lines
from experiments.monitor.rates import CLIPS_SOURCE, GPU_RATES, PACKED_SOURCE
from experiments.monitor.status_table import count_states
from experiments.monitor.table import print_json, print_rows
from experiments.store.ledger import Ledger, matching
from results.reading.location import Location
from results.reading.run_folder import State
from tcclip.config import Execution

#: Few machines have cores for more loader processes a worker.
MANY_LOADERS = 64


@dataclass(frozen=True)
class PlannedRun:
    """One row of a dry run. `again`: it would be run from the beginning."""

    run_id: str
    state: State
    after: str | None
    cost: Cost
    overrides: tuple[str, ...] = ()
    again: bool = False

    @property
    def left(self) -> bool:
        """Whether it is to be computed."""
        return self.again or self.state is not State.FINISHED


def dry_run(
    specs: Sequence[RunSpec],
    out: Location,
    execution: Execution,
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
    costs = {
        key: cost(one, measured, execution, list_length(one.train_list))
        for key, one in alike.items()
    }
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


def print_plan(
    rows: Sequence[PlannedRun],
    execution: Execution,
    format: str,
    decodes: Mapping[str, Decodes] = {},
    cache_limit: int = 0,
    names: Mapping[str, str] = {},
) -> None:
    """Print a dry run as a table, markdown or JSON, with its totals.

    `decodes`: by run id, of runs that are left: what the cache gives them costs nothing.
    `cache_limit`: in bytes. `names`: run id -> the title of its row, where it has one.
    """
    rows = [
        replace(row, cost=with_decoding(row.cost, decodes[row.run_id].core_hours, execution))
        if row.run_id in decodes
        else row
        for row in rows
    ]
    if format == "json":
        of_runs = {run_id: {"decodes": asdict(one)} for run_id, one in decodes.items()}
        others = [of_runs.get(row.run_id, {}) | {"name": names.get(row.run_id)} for row in rows]
        print_json([asdict(row) | other for row, other in zip(rows, others, strict=True)])
        return
    head = ["run", "state", "after", "train videos", "steps", "test videos", "GPU-h", "", "GB"]
    cells = [_cells(row) for row in rows]
    shared = (
        set(rows[0].overrides).intersection(*(row.overrides for row in rows)) if rows else set()
    )
    own = [" ".join(one for one in row.overrides if one not in shared) for row in rows]
    titles = [names.get(row.run_id, settings) for row, settings in zip(rows, own, strict=True)]
    if any(titles):  # what tells the grid's rows apart
        for line, title in zip((head, *cells), ("row", *titles), strict=True):
            line.insert(2, title)
    print_rows(
        count_states([row.state for row in rows]), head, cells, format, 4 if any(titles) else 3
    )
    if shared:
        print(f"settings of all runs: {' '.join(sorted(shared))}")
    again = sum(row.again for row in rows)
    if again:
        print(f"--rerun: {again} of these runs would be run again, from the beginning")
    left = [row.cost for row in rows if row.left]
    lines = _totals(left, execution) + decode_lines(list(decodes.values()), cache_limit)
    print("\n".join(lines))


def _totals(left: Sequence[Cost], execution: Execution) -> list[str]:
    """What the runs that are left cost together, how that is known and what bounds it."""
    hours, disk = sum(one.gpu_hours or 0.0 for one in left), sum(one.gigabytes for one in left)
    unknown = sum(one.gpu_hours is None for one in left)
    more = f" (and {unknown} runs whose training list is not at hand)" if unknown else ""
    lines = [f"left: {len(left)} runs, {hours:.1f} GPU-hours{more}, {disk:.1f} GB"]
    if any(one.basis == "measured" for one in left):
        lines.append("measured: the mean of finished runs of the kind")
    estimated = [one for one in left if one.basis == "estimated"]
    compute = sum(one.compute_hours or 0.0 for one in estimated)
    decode = sum(one.decode_hours or 0.0 for one in estimated)
    if estimated:
        loaders = decoding_processes(execution)
        lines += [
            f"estimated: the longer of {compute:.1f} GPU-hours of computing and {decode:.1f} "
            f"core-hours of decoding, here by {loaders} loader process"
            f"{'es' * (loaders > 1)} a worker",
            f"  computing: {GPU_RATES}",
            f"  decoding: clips a second and core measured in {CLIPS_SOURCE}, of packs in "
            f"{PACKED_SOURCE}",
        ]
    waiting = [one for one in estimated if one.bound == "decoding"]
    if waiting:
        shares = [(one.decode_hours or 0.0) / (one.compute_hours or math.inf) for one in waiting]
        enough = math.ceil(max(shares) * execution.gpus_per_worker)
        more = f"more, up to {enough}," if enough <= MANY_LOADERS else "more"
        lines.append(
            f"decoding bounds {len(waiting)} of {len(left)} runs: {more} --loader-workers make "
            "them shorter, with a core for each"
        )
    return lines


def _cells(row: PlannedRun) -> list[str]:
    one = row.cost
    hours = "–" if one.gpu_hours is None else f"{one.gpu_hours:.2f}"
    counts = ["–" if n is None else str(n) for n in (one.videos, one.steps, one.eval_videos)]
    after = "" if row.after is None else row.after.rpartition("-")[2]
    state = f"{row.state}, again" if row.again else str(row.state)
    basis = f"{one.basis} ({one.bound})" if one.bound else one.basis
    return [row.run_id, state, after, *counts, hours, basis, f"{one.gigabytes:.1f}"]
