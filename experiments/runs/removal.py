"""`tcclip runs forget` and `clean`: nothing is removed that another run still needs.

A run to forget is moved to `<out>/trash/TIME/<run_id>`, and what is to be deleted is deleted there:
whenever the process is killed, a run folder is whole or in the trash. Runs go before those that
they start from.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.errors import UserError
from experiments.monitor.table import print_json, print_rows
from experiments.runs.listing import children, choose, size_text, starts_from
from experiments.store.files import remove, remove_all, sizes
from experiments.store.ledger import Ledger
from experiments.store.rerun import claimed, move
from results.reading.location import Location, folder_names
from results.reading.run_folder import BEST, RunFolder, State


@dataclass(frozen=True)
class Removal:
    """What is to be removed: files of run folders, with their sizes in bytes."""

    out: Location
    files: Mapping[RunFolder, Mapping[str, int]]

    def show(self, format: str) -> None:
        """Print the files of each run, and their sizes."""
        if format == "json":
            print_json(
                [{"run_id": one.run_id, "bytes": dict(files)} for one, files in self.files.items()]
            )
            return
        total = sum(sum(files.values()) for files in self.files.values())
        rows = [
            [folder.run_id, f"{len(files)} files" if len(files) > 3 else ", ".join(files),
             size_text(sum(files.values()))]
            for folder, files in self.files.items()
        ]  # fmt: skip
        title = f"{len(self.files)} run{'s' * (len(self.files) != 1)}, {size_text(total)}"
        if rows:
            print_rows(title, ["run", "what", "size"], rows, format)
        else:
            print("nothing to remove")


# ---- Forget ----


def trash(out: Location) -> Location:
    """Where forgotten runs are."""
    return out / "trash"


def to_forget(out: Location, patterns: Sequence[str]) -> Removal:
    """The runs that the patterns name, children first.

    UserError if one is running, or if another run, which is not named, starts from one.
    """
    chosen, needed_by = choose(out, patterns), children(out)
    names = {folder.run_id for folder in chosen}
    for folder in chosen:
        others = [one for one in needed_by.get(folder.run_id, ()) if one not in names]
        if others:
            raise UserError(
                f"{folder.run_id} is needed: {', '.join(others)} starts from it; forget both, or "
                "none"
            )
        if folder.state() is State.RUNNING:
            raise UserError(f"{folder.run_id} is running; stop it first (Ctrl-C in its sweep)")

    def depth(run_id: str) -> int:
        return 1 + max(map(depth, needed_by.get(run_id, ())), default=0)

    chosen.sort(key=lambda folder: depth(folder.run_id))
    return Removal(out, {folder: sizes(folder.path) for folder in chosen})


def forget(removal: Removal, *, purge: bool) -> str:
    """Move the runs to the trash, and delete them there if they are to be purged; what was done.

    StorageError if somebody works on one of them: then those before it are gone.
    """
    folder = trash(removal.out) / time.strftime("%Y-%m-%dT%H-%M-%S")
    for run in removal.files:
        with claimed(run.path):
            move(run, RunFolder(folder / run.run_id))
    synced = "MLflow's copies go with the next sweep, or `tcclip ui --sync`"
    if purge:
        remove_all(folder)
        return f"deleted; {synced}"
    return f"moved to {folder}; to have one back, move it to {removal.out / 'runs'}. {synced}"


def trashed(out: Location) -> Removal:
    """What is in the trash."""
    times = [trash(out) / name for name in folder_names(trash(out))]
    runs = [RunFolder(one / name) for one in times for name in folder_names(one)]
    return Removal(out, {run: sizes(run.path) for run in runs})


def empty_trash(out: Location) -> str:
    """Delete what is in the trash; what was done."""
    remove_all(trash(out))
    return f"{trash(out)} is empty"


# ---- Clean ----


def to_clean(out: Location, patterns: Sequence[str]) -> Removal:
    """The training states and the weights that were not selected, of finished runs.

    Not the state that a run which is not finished yet goes on with.
    """
    needed = _states_needed(Ledger(out))
    found: dict[RunFolder, dict[str, int]] = {}
    for folder in choose(out, patterns):
        result = folder.read_summary()
        if result is None:
            continue
        kept = folder.best_of(result.selection.best_epoch).stem
        files = {
            name: size
            for name, size in sizes(folder.path / "checkpoints").items()
            if (name == folder.last.name and folder.run_id not in needed)
            or (name.startswith(BEST) and name.partition(".")[0] != kept)
        }
        if files:
            found[folder] = files
    return Removal(out, found)


def _states_needed(ledger: Ledger) -> set[str]:
    """The runs whose training unfinished ones go on with."""
    folders = ledger.folders()
    parents = ledger.for_each(starts_from, folders)
    extended = {
        folder: parent for folder, (parent, extends) in zip(folders, parents, strict=True)
        if extends and parent is not None
    }  # fmt: skip
    finished = ledger.finished(list(extended))
    return {parent for folder, parent in extended.items() if folder.run_id not in finished}


def clean(removal: Removal) -> str:
    """Delete the files; what was done. StorageError if somebody works on one of the runs."""
    for folder, files in removal.files.items():
        with claimed(folder.path):
            for name in files:
                remove(folder.path / "checkpoints" / name)
    total = sum(sum(files.values()) for files in removal.files.values())
    return f"deleted {size_text(total)}; numbers, predictions and selected weights are kept"
