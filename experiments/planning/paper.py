"""`sweep paper`: the grids of all protocols as one, cheapest runs first; `--budget`."""

from __future__ import annotations

import heapq
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import protocols
from experiments.datasets.paths import DataPaths
from experiments.errors import UserError, user_errors
from experiments.grid import options as option
from experiments.grid.grid_file import FOLDER, GridFile
from experiments.grid.options import FilterOptions, GridOptions
from experiments.grid.request import RunPlan, plan_sweep
from experiments.grid.spec import ListSpec, RunSpec, with_parents
from experiments.monitor.dry_run import PlannedRun, dry_run
from protocols.datasets import Dataset
from results.reading.location import Location, location
from tcclip.config import Execution, FrozenModel
from tcclip.text_files import read_yaml

#: What stands for all protocols, in place of one.
PAPER = "paper"
FILE = FOLDER.parent / "paper.yaml"


class _PaperFile(FrozenModel):
    grids: tuple[GridFile, ...]


def plan_paper(
    options: GridOptions, datasets: Mapping[str, Dataset], given: Sequence[str] = ()
) -> RunPlan:
    """The runs of every published row that is ours; of another protocol than "paper", as
    `plan_sweep`.

    --seeds and --set are of all runs; --datasets, --models, --variants, --shots and --splits choose
    among them, and what the chosen ones start from comes along.
    """
    if options.protocol != PAPER:
        return plan_sweep(options, datasets, given)
    if options.search or options.init_checkpoint or given:
        raise UserError("--search, --init-checkpoint and --dataset-file are of one protocol")
    with user_errors():
        content, _ = read_yaml(FILE, _PaperFile)
    plans = [plan_sweep(_options_of(one, options), datasets) for one in content.grids]
    specs = _chosen({spec.run_id: spec for plan in plans for spec in plan.specs}, options)
    files: dict[str, Path] = {}
    for plan in plans:
        files |= plan.grid.files
    grid = replace(plans[0].grid, protocol=PAPER, files=files)
    notes = dict.fromkeys(note for plan in plans for note in plan.notes)
    names = {run_id: name for plan in plans for run_id, name in plan.names.items()}
    return RunPlan(grid, specs, [*notes], names=names)


def _options_of(grid: GridFile, options: GridOptions) -> GridOptions:
    return replace(
        options, protocol=grid.protocol, models=",".join(grid.models or ()),
        variants=",".join(grid.variants), datasets=None, shots=None, splits=None,
    )  # fmt: skip


def _chosen(specs: Mapping[str, RunSpec], options: GridOptions) -> list[RunSpec]:
    """The runs that the options choose, after those that they start from."""
    asked = {name: getattr(options, name) for name in (*option.WORDS, "shots", "splits")}
    meant = FilterOptions(**asked, seeds=None, name=None, run=None).runs()
    chosen = [spec for run_id, spec in specs.items() if meant.has_point_of(run_id)]
    if not chosen:
        raise UserError(
            "no run of the paper is of all that was asked for; tcclip sweep paper "
            "--dry-run lists them"
        )
    return with_parents(chosen, specs.__getitem__)


def cheapest_first(
    plan: RunPlan,
    budget: str | None,
    out: Location,
    execution: Execution,
    list_length: Callable[[ListSpec], int | None],
) -> RunPlan:
    """The paper's plan, or any with a `budget` ("40h"), with its cheapest runs first, each after
    what it starts from, and no more of those that are left than so many GPU-hours.

    What is left out is named in the plan's notes, and how many runs' cost is unknown.
    """
    match = re.fullmatch(r"(\d{1,9}(\.\d*)?) *h?", budget or "", re.ASCII)
    if budget is not None and match is None:
        raise UserError(f"--budget {budget!r}: give GPU-hours, e.g. 40h")
    most = float(match[1]) if match else None
    if plan.grid.protocol != PAPER and most is None:
        return plan
    rows = dry_run(plan.specs, out, execution, list_length)
    return _within(plan, rows, most)


def _within(plan: RunPlan, rows: Sequence[PlannedRun], budget: float | None) -> RunPlan:
    hours = {row.run_id: (row.cost.gpu_hours if row.left else 0.0) for row in rows}
    #: run id, or None -> (cost, number) of the runs that may come once that one has.
    after: dict[str | None, list[tuple[float, int]]] = defaultdict(list)
    for number, spec in enumerate(plan.specs):
        cost = hours[spec.run_id]
        parent = spec.parent if spec.parent in hours else None
        after[parent].append((math.inf if cost is None else cost, number))
    spent, order, ready = 0.0, dict[str, RunSpec](), after[None]
    heapq.heapify(ready)
    while ready and (budget is None or spent + ready[0][0] <= budget):
        cost, number = heapq.heappop(ready)
        spent += cost
        spec = plan.specs[number]
        order[spec.run_id] = spec
        for one in after[spec.run_id]:
            heapq.heappush(ready, one)
    notes = list(plan.notes)
    left = [hours[spec.run_id] for spec in plan.specs if spec.run_id not in order]
    if left:
        unknown = sum(one is None for one in left)
        more = f", and {unknown} nobody knows what: no training list" if unknown else ""
        notes.append(
            f"--budget {budget:g} GPU-hours: {spent:.1f} planned; {len(left)} more runs would take "
            f"{sum(one or 0.0 for one in left):.1f}{more}"
        )
    if not order:
        raise UserError(f"{notes[-1]}: nothing is planned")
    return replace(plan, specs=list(order.values()), notes=notes)


def progress(outs: Sequence[str], demo: bool) -> tuple[str, ...]:
    """What of the paper is done in one of the folders, missing, and what that costs: a line a
    protocol."""
    data = DataPaths.find()
    plan = plan_paper(GridOptions(PAPER, demo=demo), data.datasets())
    found = [dry_run(plan.specs, location(one), Execution(), data.list_length) for one in outs]
    # Of a run's rows one that is done, if there is one.
    rows = [min(several, key=lambda row: row.left) for several in zip(*found, strict=True)]
    lines = []
    of = {spec.run_id: spec.key.protocol for spec in plan.specs}
    for name in protocols.PROTOCOLS:
        own = [row for row in rows if of[row.run_id] == name]
        left = [row.cost.gpu_hours for row in own if row.left]
        hours = sum(one or 0.0 for one in left)
        unknown = sum(one is None for one in left)
        more = f" and {unknown} runs whose training list is not at hand" if unknown else ""
        missing = f"{len(left)} missing, {hours:.1f} GPU-hours{more}" if left else "none missing"
        title, done = protocols.get(name, demo=demo).title, len(own) - len(left)
        lines.append(f"{title}: {done} of {len(own)} runs done, {missing}")
    return tuple(lines)
