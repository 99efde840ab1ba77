"""`sweep --only`: some runs of a grid, or runs of the output folder as they were planned."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from experiments.errors import MissingData, UserError, user_errors
from experiments.grid import options as option
from experiments.grid.grid_file import EXECUTION
from experiments.grid.options import GridOptions
from experiments.grid.plan import Grid
from experiments.grid.request import RunPlan, make_grid
from experiments.grid.spec import with_parents
from experiments.grid.weights_file import CLIP_WEIGHTS
from experiments.planning.paper import plan_paper
from experiments.store.ledger import Ledger
from protocols.datasets import Dataset
from results.reading.location import folder_names

#: What may be given with --only where no protocol is: where runs and weights are.
_OF_PLANNED = ("protocol", "demo", "only", "out", "settings", "init_checkpoint")


def plan_chosen(
    options: GridOptions, datasets: Mapping[str, Dataset], given: Sequence[str] = ()
) -> RunPlan:
    """The runs of a sweep: a grid's, those of it that `--only` names, or without a protocol those
    of the output folder that it names. Parents come along.

    `datasets`, `given`: as for `plan_sweep`.
    """
    if options.protocol:
        plan = plan_paper(options, datasets, given)
        if options.only is None:
            return plan
        of_grid = {spec.run_id: spec for spec in plan.specs}
        chosen = _chosen(options.only, list(of_grid), "the grid; --dry-run without --only lists it")
        specs = with_parents([of_grid[one] for one in chosen], of_grid.__getitem__)
        names = {one.run_id: plan.names[one.run_id] for one in specs if one.run_id in plan.names}
        return replace(plan, specs=specs, names=names)
    if options.only is None:
        raise UserError("say what to run: a protocol, a grid file, or runs with --only")
    return _plan_of_folder(options, options.only, datasets)


def _plan_of_folder(options: GridOptions, only: str, datasets: Mapping[str, Dataset]) -> RunPlan:
    """The plan of runs that are in the output folder already, such as extended ones."""
    for field in fields(options):
        if field.name not in _OF_PLANNED and getattr(options, field.name) is not None:
            name = field.name.replace("_", "-")
            raise UserError(f"--{name} chooses among a protocol's runs: name the protocol too")
    for one in options.settings or ():
        if not one.startswith((EXECUTION, f"{CLIP_WEIGHTS}=")):
            raise UserError(f"--set {one}: runs that are planned keep their settings")
    ledger = Ledger(option.output_folder(options.out, options.demo))
    where = f"{ledger.runs}; `tcclip runs list` shows them"
    chosen = _chosen(only, folder_names(ledger.runs), where)
    with user_errors():  # a spec that is not there, or not readable
        specs = with_parents(map(ledger.spec, chosen), ledger.spec)
    kinds = {(spec.key.protocol, spec.key.demo) for spec in specs if spec.run_id in chosen}
    if len(kinds) > 1:
        raise UserError(f"--only {only!r} matches runs of several protocols: name one of them too")
    ((protocol, demo),) = kinds
    if demo != options.demo and options.out is None:
        raise UserError("these runs are of the demo, or not: say where they are with --out")
    # Its files are those of the weights that runs name by their content.
    grid = make_grid(replace(options, protocol=protocol, demo=demo, only=None))
    for spec in specs:
        for name in sorted({one.dataset for one, _ in spec.lists} - datasets.keys()):
            raise MissingData(
                f"{spec.run_id} needs the data set {name!r}: give its file with --dataset-file"
            )
        for content in {spec.checkpoint, spec.clip_content} - {None, *grid.files}:
            raise MissingData(
                f"{spec.run_id} needs the weights with sha256 {content}: give their file with "
                f"--init-checkpoint or --set {CLIP_WEIGHTS}=FILE"
            )
    return RunPlan(Grid(protocol, demo=demo, files=grid.files, execution=grid.execution), specs, [])


def _chosen(only: str, run_ids: Sequence[str], where: str) -> list[str]:
    found = fnmatch.filter(run_ids, only)
    if not found:
        raise UserError(f"--only {only!r} matches no run of {where}")
    return found
