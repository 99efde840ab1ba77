"""The run ledger: run folders and what state each run is in. Files are the truth."""

from __future__ import annotations

import fnmatch
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from experiments.errors import LeaseHeld, StorageError, UserError
from experiments.grid.spec import RunSpec
from experiments.store.files import check_exclusive, clear_abandoned, remove, write_text
from experiments.store.lease import claim
from results.reading.holder import PREFIX
from results.reading.location import (
    RECORD_BYTES,
    Location,
    folder_names,
    is_local,
    names,
    read_bytes,
)  # fmt: skip
from results.reading.run_folder import RunFolder, State
from results.records import Result
from tcclip.text_files import parse_json

log = logging.getLogger(__name__)

#: Runs in an object store that are read at once.
STORE_THREADS = 16

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Ledger:
    """All runs under one output folder."""

    out: Location

    @property
    def runs(self) -> Location:
        """The folder of the run folders."""
        return self.out / "runs"

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run, which need not exist."""
        return RunFolder(self.runs / run_id)

    def folders(self) -> list[RunFolder]:
        """Every run folder there is, by name."""
        return [self.folder(name) for name in folder_names(self.runs)]

    def for_each(self, read: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """`read` of each item, in order; several at once where they are in an object store."""
        if is_local(self.out):
            return [read(one) for one in items]
        with ThreadPoolExecutor(STORE_THREADS) as pool:
            return list(pool.map(read, items))

    def finished(self, folders: Sequence[RunFolder]) -> dict[str, Result]:
        """Run id -> result, of the finished ones. StorageError if a store is out of reach."""
        found = self._read(RunFolder.read_summary, folders, unreadable=None)
        return {run_id: one for run_id, one in found.items() if one is not None}

    def states(self, specs: Sequence[RunSpec]) -> dict[str, State]:
        """State of each run. StorageError if a store is out of reach."""
        folders = [self.folder(spec.run_id) for spec in specs]
        return self._read(RunFolder.state, folders, unreadable=State.STALE)

    def _read(
        self, read: Callable[[RunFolder], R], folders: Sequence[RunFolder], unreadable: R
    ) -> dict[str, R]:
        """Run id -> what `read` says; `unreadable` for a local folder with an error of the disk."""

        def one(folder: RunFolder) -> R:
            try:
                return read(folder)
            except StorageError:
                if not is_local(self.out):
                    raise
                return unreadable  # the run's own attempt says why

        run_ids = [folder.run_id for folder in folders]
        return dict(zip(run_ids, self.for_each(one, folders), strict=True))

    def add(self, specs: Sequence[RunSpec]) -> None:
        """Write each run's spec.json; StorageError if the folder cannot be written."""
        check_exclusive(self.out)
        self.for_each(self._add, specs)

    def name(self, names: Mapping[str, str]) -> None:
        """Write the names of rows, run id -> name, to the runs that have another or none."""

        def name(run_id: str) -> None:
            folder = self.folder(run_id)
            if folder.read_name() != names[run_id]:
                try:
                    write_text(folder.title, names[run_id] + "\n")
                except StorageError as error:
                    log.warning("the name of a row was not written, its id is shown: %s", error)

        self.for_each(name, names)

    def _add(self, spec: RunSpec) -> None:
        folder = self.folder(spec.run_id)
        try:
            self.spec(spec.run_id)
        except StorageError:
            pass  # cannot be written either: the run's own attempt says why
        except (FileNotFoundError, LookupError, TypeError, ValueError):  # missing or cut short
            data = {"run_id": spec.run_id, **spec.model_dump(mode="json")}
            write_text(folder.spec, json.dumps(data, indent=1))
            clear_abandoned(folder.path)

    def spec(self, run_id: str) -> RunSpec:
        """The spec a run was added with."""
        file = self.folder(run_id).spec
        text = read_bytes(file, RECORD_BYTES)
        if text is None:
            raise FileNotFoundError(f"no {file}")
        data = parse_json(text, str(file))
        del data["run_id"]
        return RunSpec.model_validate(data)

    def repair(self, specs: Iterable[RunSpec]) -> None:
        """Tidy finished runs on a file system whose process was killed right after the result:
        remove what it left, and write a spec.json that is missing or cut short."""
        for spec in specs if is_local(self.out) else ():
            folder = self.folder(spec.run_id)
            records = (folder.failure, folder.pause_request)
            with suppress(LeaseHeld, StorageError):
                self._add(spec)
                present = names(folder.path)
                left = [path for path in records if path.name in present]
                if left or any(name.startswith(PREFIX) for name in present):
                    with claim(folder.path):  # a dead process's lease goes with it
                        for path in left:
                            remove(path)


def check_runs(out: Location) -> None:
    """UserError unless `out` is the folder of a sweep."""
    if "runs" not in names(out):
        raise UserError(f"{out} holds no runs; give the folder of a sweep with --out")


def matching(states: Mapping[str, State], which: str) -> list[str]:
    """The runs that `--rerun` names: "failed", "all", or a run id pattern.

    UserError if a pattern matches nothing.
    """
    if which == "failed":
        return [run_id for run_id, state in states.items() if state is State.FAILED]
    if which == "all":
        return [run_id for run_id, state in states.items() if state is not State.PLANNED]
    chosen = fnmatch.filter(states, which)
    if not chosen:
        raise UserError(f"--rerun {which!r} matches none of: {', '.join(states)}")
    return chosen
