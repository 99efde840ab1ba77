"""From run folders to results, and one long table of their numbers.

A file that cannot be used is a `Problem`, a run without a usable result is an `Unfinished`; every
report shows both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import ValidationError

from results.errors import StorageError
from results.reading.location import is_local, location, read_bytes
from results.reading.long_table import long_table
from results.reading.run_folder import RunFolder, State, run_folders
from results.records import SCHEMA_VERSION, Result, RunKey

ProblemKind = Literal["broken", "schema", "folder", "duplicate", "conflict"]

#: Why a run has no result, for states that do not say it themselves.
_CAUSES = {
    State.STOPPED: "a search found it not worth finishing",
    State.PAUSED: "saved a checkpoint and ended; the same sweep command continues it",
    State.STALE: "stopped without a word; the same sweep command continues it",
}


@dataclass(frozen=True)
class Problem:
    """A file that was not used, or not as it is, and why."""

    kind: ProblemKind
    out: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass(frozen=True)
class Unfinished:
    """A run without a usable result. `key` is None if its spec cannot be read either."""

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

    `finished`: (output folder, result). `table`: their numbers, see `long_table`.
    """

    finished: tuple[tuple[str, Result], ...]
    table: pd.DataFrame
    problems: tuple[Problem, ...]
    unfinished: tuple[Unfinished, ...]


def collect(
    outs: Sequence[Path | str] | Path | str,
    protocol: str | None = None,
    demo: bool | None = None,
) -> Collected:
    """Read every run folder of `outs`; None means any protocol, demo or not.

    FileNotFoundError if an output folder does not exist, StorageError if a store is out of reach.
    Anything else that is wrong with a run is named in `problems`, and the run is unfinished.
    """
    collector = _Collector(protocol, demo)
    for out in [outs] if isinstance(outs, Path | str) else outs:
        for folder in run_folders(location(out)):
            collector.add(folder, str(out))
    return collector.collected()


@dataclass
class _Collector:
    """What has been read so far."""

    protocol: str | None
    demo: bool | None
    results: dict[str, tuple[str, Result]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unfinished: dict[str, Unfinished] = field(default_factory=dict)
    #: Runs with several results that contradict each other: none is used.
    contradictory: set[str] = field(default_factory=set)

    def add(self, folder: RunFolder, out: str) -> None:
        """Read one run folder of the output folder `out`."""
        result = _read_result(folder, out)
        if not isinstance(result, Result):
            self._add_unfinished(folder, out, result)
        elif self._is_wanted(result.key):
            self._add_result(folder, out, result)

    def _is_wanted(self, key: RunKey) -> bool:
        return self.protocol in (None, key.protocol) and self.demo in (None, key.demo)

    def _add_result(self, folder: RunFolder, out: str, result: Result) -> None:
        run_id, file = folder.run_id, folder.name_of(folder.result)
        if result.run_id != run_id:
            message = f"is the result of {result.run_id}, in a folder of another name; not used"
            self.problems.append(Problem("folder", out, file, message))
        elif run_id in self.results or run_id in self.contradictory:
            self._add_second(result, out, file)
        else:
            self.results[run_id] = out, result

    def _add_second(self, result: Result, out: str, file: str) -> None:
        """A run in a second output folder: it counts once, or not at all if the numbers differ."""
        there = "other output folders"
        if result.run_id in self.results:
            first_out, first = self.results[result.run_id]
            if first.measurements == result.measurements:
                message = f"also in {first_out}; counted once"
                self.problems.append(Problem("duplicate", out, file, message))
                return
            there = f"{first_out} ({_origin(first)})"
            self._exclude(result.run_id, "results that disagree")
        message = (
            f"other numbers ({_origin(result)}) than the same run in {there}; none is used: report "
            "the folders one by one, or delete the run's folder where it shall not count, or "
            f"compute it anew in both with --rerun {result.run_id}"
        )
        self.problems.append(Problem("conflict", out, file, message))

    def _exclude(self, run_id: str, cause: str) -> None:
        out, result = self.results.pop(run_id)
        self.contradictory.add(run_id)
        self.unfinished[run_id] = Unfinished(run_id, out, State.STALE, cause, result.key)

    def _add_unfinished(self, folder: RunFolder, out: str, problem: Problem | None) -> None:
        key, spec_problem = _read_key(folder, out)
        if key is not None and not self._is_wanted(key):
            return
        self.problems.extend(one for one in (problem, spec_problem) if one is not None)
        state, cause = _state(folder)
        if problem is not None:
            # The run did begin: a result that cannot be used is there.
            state = State.STALE if state is State.PLANNED else state
            cause = problem.message if state is State.STALE else f"{problem.message}; {cause}"
        self.unfinished[folder.run_id] = Unfinished(folder.run_id, out, state, cause, key)

    def collected(self) -> Collected:
        """Everything that was added."""
        self._exclude_same_keys()
        # A run that is finished in one output folder may be unfinished in another.
        unfinished = [one for name, one in self.unfinished.items() if name not in self.results]
        unfinished.sort(key=lambda one: one.run_id)
        finished = tuple(self.results.values())
        table = long_table([result for _, result in finished])
        return Collected(finished, table, tuple(self.problems), tuple(unfinished))

    def _exclude_same_keys(self) -> None:
        """Two runs for one point of the grid: an average over both would count it twice."""
        by_key: dict[RunKey, list[str]] = {}
        for run_id, (_, result) in self.results.items():
            by_key.setdefault(result.key, []).append(run_id)
        for run_ids in (ids for ids in by_key.values() if len(ids) > 1):
            newest = max(run_ids, key=lambda one: self.results[one][1].provenance.finished)
            for run_id in run_ids:
                others = ", ".join(other for other in run_ids if other != run_id)
                advice = "keep it and delete the folders of the others"
                if run_id != newest:
                    advice = f"the newest is {newest}, so delete the folder of this one"
                out, result = self.results[run_id]
                message = (
                    f"stands for the same point of the grid as {others}; none is used. This one "
                    f"{_origin(result)}: {advice}, or give them different --out folders"
                )
                file = f"runs/{run_id}/result.json"
                self.problems.append(Problem("conflict", out, file, message))
                self._exclude(run_id, f"same point of the grid as {others}")


def _origin(result: Result) -> str:
    """When and by which code: `finished 2026-01-01T01:00:00+00:00 with commit 0123456789ab`."""
    one = result.provenance
    commit = "an unknown commit" if one.git_commit is None else f"commit {one.git_commit[:12]}"
    return f"finished {one.finished} with {commit}{' and changes' if one.git_dirty else ''}"


def _read_result(folder: RunFolder, out: str) -> Result | Problem | None:
    """The run's result, None if there is none, or why it cannot be used."""
    file = folder.name_of(folder.result)
    try:
        data = read_bytes(folder.result)
        return None if data is None else Result.model_validate_json(data)
    except StorageError as error:
        return Problem("broken", out, file, _unreadable(folder, error))
    except ValidationError as error:
        kind, message = _diagnose(data or b"", error)
        return Problem(kind, out, file, message)


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
        message = f"{_unreadable(folder, error)}, so what the run was is unknown"
        return None, Problem("broken", out, file, message)
    if data is None:
        return None, Problem("broken", out, file, "missing, so what the run was is unknown")
    try:
        return RunKey.model_validate(json.loads(data)["key"]), None
    except (ValueError, KeyError, TypeError):
        return None, Problem("broken", out, file, "not readable, so what it was is unknown")


def _unreadable(folder: RunFolder, error: StorageError) -> str:
    """What to say of a local file that cannot be read. Raises `error` for one in a store, which
    is then out of reach for all runs."""
    if not is_local(folder.path):
        raise error
    return f"cannot be read: {getattr(error.__cause__, 'strerror', None) or error}"


def _state(folder: RunFolder) -> tuple[State, str]:
    """(state, cause) of a run without a usable result."""
    try:
        state = folder.state_without_result()
        failure = folder.read_failure() if state is State.FAILED else None
    except StorageError as error:
        return State.STALE, f"a file of it {_unreadable(folder, error)}"
    if state is State.FAILED:
        if failure is None:
            return state, "failure.json is broken"
        # The recorded message may begin with the error's name itself.
        return state, failure.message.removeprefix(f"{failure.error}: ") or failure.error
    return state, _CAUSES.get(state, "")
