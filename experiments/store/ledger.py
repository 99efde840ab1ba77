"""The run ledger: run folders and what state each run is in. Files are the truth."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.errors import LeaseHeld, OutputUnusable, UserError
from experiments.grid.spec import RunSpec
from experiments.store.cleanup import clear_abandoned
from experiments.store.files import (
    Location,
    check_exclusive,
    folder_names,
    is_local,
    names,
    read_bytes,
    remove,
    remove_all,
    write_text,
)
from experiments.store.lease import PREFIX, Holder, Lease, held, read_holder, stirs
from experiments.store.result_file import Finished, finished, read_result, readable
from results.records import Failure, Result


class State(StrEnum):
    """What a run's folder says of it."""

    PLANNED = "planned"
    RUNNING = "running"
    STALE = "stale"
    PAUSED = "paused"
    FAILED = "failed"
    STOPPED = "stopped"
    FINISHED = "finished"


#: States in which nothing is left to do: a search stopped the run early, or it has its result.
ENDED = (State.STOPPED, State.FINISHED)
#: How the files of best weights begin; their epoch follows.
BEST = "best-"
#: Runs of a store that are asked about at once.
AT_ONCE = 16
#: Holders elsewhere that are watched at once, before their runs are deleted.
WATCHED_AT_ONCE = 256


@dataclass(frozen=True)
class RunFolder:
    """The files of one run under `<out>/runs/<run_id>/`."""

    path: Location

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Location:
        return self.path / "spec.json"

    @property
    def metrics(self) -> Location:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Location:
        return self.path / "run.log"

    @cached_property
    def result(self) -> Location:
        return self.path / "result.json"

    @property
    def failure(self) -> Location:
        return self.path / "failure.json"

    @property
    def stopped(self) -> Location:
        return self.path / "stopped.json"

    @property
    def paused(self) -> Location:
        """There since the run saved a checkpoint and ended, as it was asked to."""
        return self.path / "paused.json"

    @property
    def pause(self) -> Location:
        """There while the run is asked to save a checkpoint and end."""
        return self.path / "pause"

    def best_of(self, epoch: int) -> Location:
        """The weights after `epoch`, kept while they are the best ones."""
        return self.path / "checkpoints" / f"{BEST}{epoch:04d}.safetensors"

    @property
    def best(self) -> Location:
        """The selected weights of a finished run. ValueError for another, or one never trained."""
        result = self.read_result()
        if result is None or result.selection.best_epoch == 0:
            raise ValueError(
                f"{self.run_id} has no selected weights: it has not trained to its end"
            )
        return self.best_of(result.selection.best_epoch)

    @property
    def last(self) -> Location:
        return self.path / "checkpoints" / "last.pt"

    def predictions(self, suite: str, split: str) -> Location:
        return self.path / "predictions" / suite / f"{split}.parquet"

    def read_result(self) -> Result | None:
        """The result if it is there and validates, else None: the run is not finished."""
        return read_result(self.result)

    def read_failure(self) -> Failure | None:
        """Why the last attempt stopped, if it did and the record is whole."""
        data = read_bytes(self.failure)
        try:
            return None if data is None else Failure.model_validate_json(data)
        except ValidationError:
            return None

    def fail(self, error: str, message: str, traceback: str, repeats: bool = False) -> Failure:
        """Write failure.json; the attempt number counts on from the record before."""
        before = self.read_failure()
        failure = Failure(
            run_id=self.run_id,
            error=error,
            message=message,
            traceback=traceback,
            attempt=1 if before is None else before.attempt + 1,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            repeats=repeats,
        )
        write_text(self.failure, failure.model_dump_json(indent=1))
        remove(self.paused)  # by an attempt that failed before it began
        return failure

    def begin(self) -> None:
        """Another attempt begins: how the one before ended is not how the run stands any more."""
        remove(self.paused)
        failure = self.read_failure()
        if failure is not None and not failure.went_on:
            went_on = failure.model_copy(update={"went_on": True})
            write_text(self.failure, went_on.model_dump_json(indent=1))

    def rest(self, reason: str) -> None:
        """Write paused.json: the run ended where it can go on."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_text(self.paused, json.dumps({"run_id": self.run_id, "reason": reason, "time": now}))

    def stop(self, reason: str, metrics: Mapping[str, Any]) -> None:
        """Write stopped.json: a search found the run not worth finishing."""
        kept = {name: metrics[name] for name in ("epoch", "top1") if name in metrics}
        write_text(self.stopped, json.dumps({"run_id": self.run_id, "reason": reason, **kept}))

    def state(self) -> State:
        """What the files say; a result that is cut or does not validate is no result."""
        if finished(self.result) is not None:
            return State.FINISHED
        present = names(self.path)
        holder = read_holder(self.path, present)
        if holder is not None and holder.seems_alive():
            return State.RUNNING
        if self.stopped.name in present:
            return State.STOPPED
        if self.paused.name in present:
            return State.PAUSED
        if self.failure.name in present:
            failure = self.read_failure()
            return State.STALE if failure is not None and failure.went_on else State.FAILED
        begun = holder is not None or {self.metrics.name, self.result.name} & set(present)
        return State.STALE if begun else State.PLANNED


def _readable_state(folder: RunFolder) -> State:
    """One folder that cannot be read is one run's failure: who begins the run is told why."""
    try:
        return folder.state()
    except OutputUnusable:
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
        """State of each run. OutputUnusable if a store is out of reach."""
        folders = [self.folder(spec.run_id) for spec in specs]
        if is_local(self.out):
            return {folder.run_id: _readable_state(folder) for folder in folders}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(RunFolder.state, folders)
            return {folder.run_id: state for folder, state in zip(folders, found, strict=True)}

    def enter(self, specs: Sequence[RunSpec]) -> None:
        """Write each run's spec.json; OutputUnusable if the folder cannot be written."""
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
        except OutputUnusable:  # not to be written either: who asks for it is told
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
            with suppress(LeaseHeld, OutputUnusable):
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

        OutputUnusable if a live process works on one of them: then none is deleted. What seems
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
        """Who held a run and is dead; None if nobody does. OutputUnusable if the holder lives."""
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


def _at_work(who: str) -> OutputUnusable:
    return OutputUnusable(f"{who}; stop it before a rerun (nothing of it was deleted)")
