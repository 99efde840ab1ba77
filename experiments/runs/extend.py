"""`tcclip runs extend`: finished runs go on, as new runs on the schedule of more epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.errors import UserError
from experiments.grid.spec import RunSpec
from experiments.runs.listing import choose
from experiments.scheduler.summary import shell_command
from experiments.store.ledger import Ledger
from protocols.datasets import DATASETS
from results.reading.location import Location, exists
from results.reading.run_folder import RunFolder, State


def extend(out: Location, patterns: Sequence[str], epochs: int) -> None:
    """Plan a run for each of those that the patterns name, and say how to compute them.

    UserError if one of them cannot be extended; then none is planned.
    """
    ledger = Ledger(out)
    planned = [_extended(ledger, folder, epochs) for folder in choose(out, patterns)]
    ledger.add(planned)
    for spec in planned:
        print(f"{spec.run_id}: epochs {(spec.extends or 0) + 1} to {epochs} after {spec.parent}")
    print("planned; the learning rate follows the schedule of all epochs from there on. Compute:")
    for spec in planned:
        own = "" if spec.key.dataset in DATASETS else " --dataset-file FILE"
        print(f"  {shell_command(['sweep', '--only', spec.run_id], out)}{own}")


def _extended(ledger: Ledger, folder: RunFolder, epochs: int) -> RunSpec:
    """The run that goes on with a finished one. UserError if there cannot be one."""
    spec, state = ledger.spec(folder.run_id), folder.state()
    if state is not State.FINISHED:
        raise UserError(
            f"{folder.run_id} is {state}, and only finished runs are extended; "
            f"{shell_command(['sweep', '--only', folder.run_id], ledger.out)}"
        )
    if not spec.train.epochs:
        raise UserError(f"{folder.run_id} was only tested: there is no training to go on with")
    if epochs <= spec.train.epochs:
        raise UserError(f"--epochs {epochs}: {folder.run_id} has {spec.train.epochs} already")
    if not _can_go_on(folder):
        raise UserError(
            f"{folder.last} holds no optimiser state (cleaned, or written by a version that left "
            f"it out), so {folder.run_id} cannot go on; train anew with --set train.epochs={epochs}"
        )
    return spec.extended(epochs)


def _can_go_on(folder: RunFolder) -> bool:
    """Whether the last state is there with its optimiser; in a store, only whether it is there."""
    if not isinstance(folder.last, Path):
        return exists(folder.last)
    from tcclip.weights.weight_files import read_file

    return folder.last.exists() and "optimizer" in read_file(folder.last)
