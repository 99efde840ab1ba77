"""The run ledger: run folders and what state each run is in. Files are the truth."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from experiments.errors import LeaseHeld, StorageError, UserError
from experiments.grid.spec import RunSpec
from experiments.store.cleanup import clear_abandoned
from experiments.store.files import check_exclusive, remove, remove_all, write_text
from experiments.store.lease import claim, held, stirs
from results.reading.holder import PREFIX, Holder, read_holder
from results.reading.location import Location, folder_names, is_local, names, read_bytes
from results.reading.result_file import ResultSummary, read_result, read_summary
from results.reading.run_folder import RunFolder, State

#: Runs in an object store that are read at once.
STORE_THREADS = 16
#: Holders elsewhere that are watched at once, before their runs are deleted.
WATCHED_AT_ONCE = 256

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
        with ThreadPoolExecutor(1 if is_local(self.out) else STORE_THREADS) as pool:
            return list(pool.map(read, items))

    def finished(self, folders: Sequence[RunFolder]) -> dict[str, ResultSummary]:
        """Run id -> result, of the finished ones of `folders`.

        A local result that cannot be read counts as missing. StorageError if a store is out of
        reach.
        """
        found = self.for_each(self._summary, folders)
        pairs = zip(folders, found, strict=True)
        return {folder.run_id: one for folder, one in pairs if one is not None}

    def _summary(self, folder: RunFolder) -> ResultSummary | None:
        try:
            return read_summary(folder.result)
        except StorageError:
            if not is_local(self.out):
                raise
            return None  # the run's own attempt says why

    def states(self, specs: Sequence[RunSpec]) -> dict[str, State]:
        """State of each run. StorageError if a store is out of reach."""
        run_ids = [spec.run_id for spec in specs]
        return dict(zip(run_ids, self.for_each(self._state, run_ids), strict=True))

    def _state(self, run_id: str) -> State:
        try:
            return self.folder(run_id).state()
        except StorageError:
            if not is_local(self.out):
                raise
            return State.STALE  # the run's own attempt says why

    def add(self, specs: Sequence[RunSpec]) -> None:
        """Write each run's spec.json; StorageError if the folder cannot be written."""
        check_exclusive(self.out)
        self.for_each(self._add, specs)

    def _add(self, spec: RunSpec) -> None:
        folder = self.folder(spec.run_id)
        if not self._has_spec(folder):
            data = {"run_id": spec.run_id, **spec.model_dump(mode="json")}
            write_text(folder.spec, json.dumps(data, indent=1))
            clear_abandoned(folder.path)

    def _has_spec(self, folder: RunFolder) -> bool:
        """Whether its spec is there, and whole."""
        try:
            self.spec(folder.run_id)
        except StorageError:  # cannot be written either: the run's own attempt says why
            return True
        except (FileNotFoundError, LookupError, TypeError, ValueError):
            return False
        return True

    def spec(self, run_id: str) -> RunSpec:
        """The spec a run was added with."""
        text = read_bytes(self.folder(run_id).spec)
        if text is None:
            raise FileNotFoundError(f"no {self.folder(run_id).spec}")
        data = json.loads(text)
        del data["run_id"]
        return RunSpec.model_validate(data)

    def repair(self, specs: Iterable[RunSpec]) -> None:
        """Tidy the folders of finished runs: remove what a process that was killed right after
        the result left, and write a spec.json that is missing or cut short.

        Only on a file system: in a store it would take long, and these files do no harm.
        """
        for spec in specs if is_local(self.out) else ():
            with suppress(LeaseHeld, StorageError):
                self._repair(spec)

    def _repair(self, spec: RunSpec) -> None:
        folder = self.folder(spec.run_id)
        self._add(spec)
        present = names(folder.path)
        left = {folder.failure.name, folder.pause_request.name}.intersection(present)
        if left or any(name.startswith(PREFIX) for name in present):
            with held(folder.path):  # a dead process's lease goes with it
                for name in left:
                    remove(folder.path / name)

    def forget(self, run_ids: Sequence[str], unfinished: Collection[str] = ()) -> list[str]:
        """Delete what earlier attempts left, so that these runs start from the beginning.

        `unfinished`: those that had no result when they were chosen. One that another sweep has
        finished since keeps it; the ones that are kept are returned.

        StorageError if a live process works on one of them: then none is deleted. What seems
        dead elsewhere is watched for a while first, since clocks may differ.
        """
        with ThreadPoolExecutor(max(1, min(len(run_ids), WATCHED_AT_ONCE))) as pool:
            dead = list(pool.map(self._dead_holder, run_ids))
        kept = []
        for run_id, holder in zip(run_ids, dead, strict=True):
            if not self._forget(self.folder(run_id), holder, run_id in unfinished):
                kept.append(run_id)
        return kept

    def _dead_holder(self, run_id: str) -> Holder | None:
        """Who held a run and is dead; None if nobody does. StorageError if the holder lives."""
        folder = self.folder(run_id)
        holder = read_holder(folder.path)
        if holder is not None and stirs(folder.path, holder):
            raise _at_work(f"{run_id} is held by {holder.host} pid {holder.pid}")
        return holder

    def _forget(self, folder: RunFolder, dead: Holder | None, unfinished: bool) -> bool:
        """Whether it was done: not where an `unfinished` run has its result by now."""
        if not names(folder.path):
            return True
        try:
            lease = claim(folder.path, alive=lambda holder: holder != dead)
        except LeaseHeld as error:
            raise _at_work(str(error)) from error
        if unfinished and read_result(folder.result) is not None:
            lease.release()
            return False
        lease.stop()  # a heartbeat would bring the folder back
        # Whenever this is cut short, the run is not finished, and nothing says that it goes on from
        # what is gone. The lease goes last: until then nobody can begin.
        remove(folder.result)
        remove(folder.last)
        for name in sorted(names(folder.path), key=lambda name: name.startswith(PREFIX)):
            remove_all(folder.path / name)
        if isinstance(folder.path, Path):
            with suppress(OSError):  # not empty: another attempt has begun
                folder.path.rmdir()
        return True


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


def _at_work(who: str) -> StorageError:
    return StorageError(f"{who}; stop it before a rerun (nothing of it was deleted)")
