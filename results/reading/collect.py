"""From run folders to one long table: a row a number, with its key and its provenance.

Nothing is dropped in silence: a file that cannot be used is a `Problem`, a run without a result
an `Unfinished`, and both are shown wherever the table is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from results.errors import StorageError
from results.reading.location import is_local, location, read_bytes
from results.reading.long_table import LongTable
from results.reading.run_folder import RunFolder, State, run_folders
from results.records import SCHEMA_VERSION, Result, RunKey

if TYPE_CHECKING:
    import pandas as pd

ProblemKind = Literal["broken", "schema", "folder", "duplicate", "conflict", "measurement"]


#: What is said of a run in a state, where the state alone does not say it.
_CAUSES = {
    State.STOPPED: "a search found it not worth finishing",
    State.PAUSED: "saved a checkpoint and ended; the same sweep command continues it",
    State.STALE: "stopped without a word; the same sweep command continues it",
}


@dataclass(frozen=True)
class Problem:
    """A file that was not used as it is, and why."""

    kind: ProblemKind
    out: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass(frozen=True)
class Unfinished:
    """A run without a usable result. `key` is None where its spec cannot be read either."""

    run_id: str
    out: str
    state: State
    cause: str
    key: RunKey | None

    def __str__(self) -> str:
        return self.state + (f": {self.cause}" if self.cause else "")


@dataclass(frozen=True)
class Collected:
    """Everything under some output folders that a report is made of.

    `table` is the long table (results/longtable.py): a row a number, the columns of
    `RUN_COLUMNS` (the run and its provenance) and of `NUMBER_COLUMNS` (what was measured;
    `value` in percent of `videos`).
    """

    table: pd.DataFrame
    problems: tuple[Problem, ...]
    unfinished: tuple[Unfinished, ...]


def collect(
    outs: Sequence[Path | str] | Path | str,
    protocol: str | None = None,
    demo: bool | None = None,
) -> Collected:
    """Read every run folder of `outs`; None means any protocol, demo or not.

    FileNotFoundError if an output folder does not exist, StorageError if a store is out of reach;
    anything else that is wrong with a run is named in `problems` and the run counts as unfinished.
    """
    reading = _Reading(protocol, demo)
    for out in [outs] if isinstance(outs, Path | str) else outs:
        for folder in run_folders(location(out)):
            reading.read(folder, str(out))
    return reading.collected()


@dataclass(frozen=True)
class _Read:
    """A usable result: its number in the long table, and what tells it from another."""

    number: int
    out: str
    key: RunKey
    measured: int
    finished: str
    made: str


@dataclass
class _Reading:
    """What has been read so far. Results go into the long table at once and are not kept."""

    protocol: str | None
    demo: bool | None
    table: LongTable = field(default_factory=LongTable)
    results: dict[str, _Read] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    unfinished: dict[str, Unfinished] = field(default_factory=dict)

    def wanted(self, key: RunKey) -> bool:
        return self.protocol in (None, key.protocol) and self.demo in (None, key.demo)

    def read(self, folder: RunFolder, out: str) -> None:
        file = folder.name_of(folder.result)
        try:
            data = read_bytes(folder.result)
        except StorageError as error:
            self._unfinished(folder, out, Problem("broken", out, file, _unread(folder, error)))
            return
        if data is None:
            self._unfinished(folder, out, None)
            return
        try:
            result = Result.model_validate_json(data)
        except ValidationError as error:
            kind, message = _diagnose(data, error)
            self._unfinished(folder, out, Problem(kind, out, file, message))
            return
        if not self.wanted(result.key):
            return
        run_id = folder.run_id
        if result.run_id != run_id:
            message = f"is the result of {result.run_id}, in a folder of another name; not used"
            self.problems.append(Problem("folder", out, file, message))
        elif run_id in self.results or run_id in self.withdrawn:
            self._again(result, out, file)
        else:
            number = self.table.add(result, out)
            self.results[run_id] = _Read(
                number, out, result.key, hash(result.measurements),
                result.provenance.finished, _made(result),
            )  # fmt: skip

    def _again(self, result: Result, out: str, file: str) -> None:
        """The same run in a second output folder: counted once, or not at all if they disagree."""
        first = self.results.get(result.run_id)
        if first is not None and first.measured == hash(result.measurements):
            message = f"also in {first.out}; counted once"
            self.problems.append(Problem("duplicate", out, file, message))
            return
        there = f"{first.out} ({first.made})" if first else "other output folders"
        message = (
            f"other numbers ({_made(result)}) than the same run in {there}; none is used: report "
            "the folders one by one, or delete the run's folder where it shall not count, or "
            f"compute it anew in both with --rerun {result.run_id}"
        )
        self.problems.append(Problem("conflict", out, file, message))
        if first is not None:
            self._withdraw(result.run_id, "results that disagree")

    def _withdraw(self, run_id: str, cause: str) -> None:
        one = self.results.pop(run_id)
        self.table.take_back(one.number)
        self.withdrawn.add(run_id)
        self.unfinished[run_id] = Unfinished(run_id, one.out, State.STALE, cause, one.key)

    def _unfinished(self, folder: RunFolder, out: str, problem: Problem | None) -> None:
        key, complaint = _read_key(folder, out)
        if key is not None and not self.wanted(key):
            return
        self.problems.extend(one for one in (problem, complaint) if one is not None)
        state, cause = _state(folder)
        if problem is not None:
            # It did run: a result that cannot be used is not the same as none planned yet.
            state = State.STALE if state is State.PLANNED else state
            cause = problem.message if state is State.STALE else f"{problem.message}; {cause}"
        self.unfinished[folder.run_id] = Unfinished(folder.run_id, out, state, cause, key)

    def collected(self) -> Collected:
        self._same_key_twice()
        # Finished in one output folder is finished, whatever a second one says.
        unfinished = [one for name, one in self.unfinished.items() if name not in self.results]
        return Collected(
            self.table.frame(), tuple(self.problems),
            tuple(sorted(unfinished, key=lambda one: one.run_id)),
        )  # fmt: skip

    def _same_key_twice(self) -> None:
        """Two results for one point of the grid: an average over both would count it twice."""
        by_key: dict[RunKey, list[str]] = {}
        for run_id, one in self.results.items():
            by_key.setdefault(one.key, []).append(run_id)
        for run_ids in (ids for ids in by_key.values() if len(ids) > 1):
            newest = max(run_ids, key=lambda run_id: self.results[run_id].finished)
            for run_id in run_ids:
                others = ", ".join(other for other in run_ids if other != run_id)
                advice = "keep it and delete the folders of the others"
                if run_id != newest:
                    advice = f"the newest is {newest}, so delete the folder of this one"
                message = (
                    f"stands for the same point of the grid as {others}; none is used. This one "
                    f"{self.results[run_id].made}: {advice}, or give them different --out folders"
                )
                file = f"runs/{run_id}/result.json"
                self.problems.append(Problem("conflict", self.results[run_id].out, file, message))
                self._withdraw(run_id, f"same point of the grid as {others}")


def _made(result: Result) -> str:
    """When and by which code: `finished 2026-01-01T01:00:00+00:00 with commit 0123456789ab`."""
    one = result.provenance
    commit = "an unknown commit" if one.git_commit is None else f"commit {one.git_commit[:12]}"
    return f"finished {one.finished} with {commit}{' and changes' if one.git_dirty else ''}"


def _diagnose(data: bytes, error: ValidationError) -> tuple[ProblemKind, str]:
    """What is wrong with a result.json that does not validate."""
    try:
        content = json.loads(data)
    except ValueError:
        return "broken", f"half-written: {len(data)} bytes that are no whole JSON"
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        return "schema", f"schema version {version!r}; this version reads {SCHEMA_VERSION}"
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return "broken", f"{place}: {first['msg']}{more}"


def _read_key(folder: RunFolder, out: str) -> tuple[RunKey | None, Problem | None]:
    """The point of the grid an unfinished run stands for, from its spec.json."""
    file = folder.name_of(folder.spec)
    try:
        data = read_bytes(folder.spec)
    except StorageError as error:
        message = f"{_unread(folder, error)}, so what the run was is unknown"
        return None, Problem("broken", out, file, message)
    if data is None:
        return None, Problem("broken", out, file, "missing, so what the run was is unknown")
    try:
        return RunKey.model_validate(json.loads(data)["key"]), None
    except (ValueError, KeyError, TypeError):
        return None, Problem("broken", out, file, "not readable, so what it was is unknown")


def _unread(folder: RunFolder, error: StorageError) -> str:
    """What is said of one file that cannot be read; a store out of reach is everybody's trouble."""
    if not is_local(folder.path):
        raise error
    return f"cannot be read: {getattr(error.__cause__, 'strerror', None) or error}"


def _state(folder: RunFolder) -> tuple[State, str]:
    """(state, cause) of a run without a usable result."""
    try:
        state = folder.state_without_result()
        failure = folder.read_failure() if state is State.FAILED else None
    except StorageError as error:
        return State.STALE, f"a file of it {_unread(folder, error)}"
    if state is State.FAILED:
        if failure is None:
            return state, "failure.json is broken"
        # The recorded message may begin with the error's name itself.
        return state, failure.message.removeprefix(f"{failure.error}: ") or failure.error
    return state, _CAUSES.get(state, "")
