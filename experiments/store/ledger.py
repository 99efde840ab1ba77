"""The run ledger: run folders and what state each run is in. Files are the truth."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from experiments.errors import LeaseHeld, StorageError, UserError
from experiments.grid.spec import RunSpec
from experiments.store.cleanup import clear_abandoned
from experiments.store.files import check_exclusive, remove, remove_all, write_text
from experiments.store.lease import Lease, held, stirs
from results.reading.holder import PREFIX, Holder, read_holder
from results.reading.location import Location, folder_names, is_local, names, read_bytes
from results.reading.result_file import Finished, finished, readable
from results.reading.run_folder import RunFolder, State

#: Runs of a store that are asked about at once.
AT_ONCE = 16
#: Holders elsewhere that are watched at once, before their runs are deleted.
WATCHED_AT_ONCE = 256


def _readable_state(folder: RunFolder) -> State:
    """One folder that cannot be read is one run's failure: who begins the run is told why."""
    try:
        return folder.state()
    except StorageError:
        return State.STALE


@dataclass(frozen=True)
class Ledger:
    """All runs under one output folder."""

    out: Location

    @cached_property
    def runs(self) -> Location:
        """The folder of the run folders."""
        return self.out / "runs"

    @cached_property
    def _known(self) -> dict[str, RunFolder]:
        return {}  # thousands of paths take a while to put together

    def folder(self, run_id: str) -> RunFolder:
        known = self._known.get(run_id)
        if known is None:
            known = self._known[run_id] = RunFolder(self.runs / run_id)
        return known

    def folders(self) -> list[RunFolder]:
        """Every run folder there is, by name."""
        return [self.folder(name) for name in folder_names(self.runs)]

    def finished(self, folders: Sequence[RunFolder]) -> dict[str, Finished]:
        """The finished ones of `folders`, in short, by run id. One that cannot be read is none."""
        results = [folder.result for folder in folders]
        if is_local(self.out):
            found = [readable(path) for path in results]
        else:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found = list(pool.map(finished, results))
        pairs = zip(folders, found, strict=True)
        return {folder.run_id: one for folder, one in pairs if one is not None}

    def states(self, specs: Sequence[RunSpec]) -> dict[str, State]:
        """State of each run. StorageError if a store is out of reach."""
        folders = [self.folder(spec.run_id) for spec in specs]
        if is_local(self.out):
            return {folder.run_id: _readable_state(folder) for folder in folders}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(RunFolder.state, folders)
            return {folder.run_id: state for folder, state in zip(folders, found, strict=True)}

    def enter(self, specs: Sequence[RunSpec]) -> None:
        """Write each run's spec.json; StorageError if the folder cannot be written."""
        check_exclusive(self.out)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._enter, specs))

    def _enter(self, spec: RunSpec) -> None:
        folder = self.folder(spec.run_id)
        if not self._entered(folder):
            data = {"run_id": spec.run_id, **spec.model_dump(mode="json")}
            write_text(folder.spec, json.dumps(data, indent=1))
            clear_abandoned(folder.path)

    def _entered(self, folder: RunFolder) -> bool:
        """Whether its spec is there: one that was cut short is not."""
        try:
            self.spec(folder.run_id)
        except StorageError:  # not to be written either: who asks for it is told
            return True
        except (FileNotFoundError, LookupError, TypeError, ValueError):
            return False
        return True

    def spec(self, run_id: str) -> RunSpec:
        """The spec a run was entered with."""
        text = read_bytes(self.folder(run_id).spec)
        if text is None:
            raise FileNotFoundError(f"no {self.folder(run_id).spec}")
        data = json.loads(text)
        del data["run_id"]
        return RunSpec.model_validate(data)

    def mend(self, specs: Iterable[RunSpec]) -> None:
        """Put finished runs in order: remove what a process left that was killed right after the
        result, and write a spec.json that is missing or was cut short.

        On a file system only: in a store the looking would take long, and it is in nobody's way.
        """
        for spec in specs if is_local(self.out) else ():
            with suppress(LeaseHeld, StorageError):
                self._mend(spec)

    def _mend(self, spec: RunSpec) -> None:
        folder = self.folder(spec.run_id)
        self._enter(spec)
        left = {folder.failure.name, folder.pause.name} & (present := set(names(folder.path)))
        if left or any(name.startswith(PREFIX) for name in present):
            with held(folder.path):
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
            lease = Lease(folder.path, alive=lambda holder: holder != dead)
        except LeaseHeld as error:
            raise _at_work(str(error)) from error
        if unfinished and finished(folder.result) is not None:
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
