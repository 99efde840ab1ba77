"""From run folders to one long table: a row a number, with its key and its provenance.

Nothing is dropped in silence: a file that cannot be used is a `Problem`, a run without a result
an `Unfinished`, and both are shown wherever the table is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from results.reading.long_table import LongTable
from results.reading.source import Source, open_source
from results.records import SCHEMA_VERSION, Failure, Result, RunKey

if TYPE_CHECKING:
    import pandas as pd

ProblemKind = Literal["broken", "schema", "folder", "duplicate", "conflict", "measurement"]
RunState = Literal["planned", "running", "stale", "paused", "failed", "stopped"]

#: Seconds without a heartbeat after which a run counts as stopped.
PATIENCE = 60.0


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
    state: RunState
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

    FileNotFoundError if an output folder does not exist; anything else that is wrong with a run
    is named in `problems` and the run counts as unfinished.
    """
    reading = _Reading(protocol, demo)
    for out in [outs] if isinstance(outs, Path | str) else outs:
        source = open_source(out)
        for run_id in source.run_ids():
            reading.read(source, run_id)
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

    def read(self, source: Source, run_id: str) -> None:
        try:
            data = source.read(run_id, "result.json")
        except OSError as error:
            file = source.where(run_id, "result.json")
            self._unfinished(source, run_id, Problem("broken", source.out, file, _unread(error)))
            return
        if data is None:
            self._unfinished(source, run_id, None)
            return
        try:
            result = Result.model_validate_json(data)
        except ValidationError as error:
            kind, message = _diagnose(data, error)
            problem = Problem(kind, source.out, source.where(run_id, "result.json"), message)
            self._unfinished(source, run_id, problem)
            return
        if not self.wanted(result.key):
            return
        if result.run_id != run_id:
            message = f"is the result of {result.run_id}, in a folder of another name; not used"
            self._problem("folder", source, run_id, message)
        elif run_id in self.results or run_id in self.withdrawn:
            self._again(source, result)
        else:
            number = self.table.add(result, source.out)
            self.results[run_id] = _Read(
                number, source.out, result.key, hash(result.measurements),
                result.provenance.finished, _made(result),
            )  # fmt: skip

    def _again(self, source: Source, result: Result) -> None:
        """The same run in a second output folder: counted once, or not at all if they disagree."""
        first = self.results.get(result.run_id)
        if first is not None and first.measured == hash(result.measurements):
            self._problem("duplicate", source, result.run_id, f"also in {first.out}; counted once")
            return
        there = f"{first.out} ({first.made})" if first else "other output folders"
        self._problem(
            "conflict", source, result.run_id,
            f"other numbers ({_made(result)}) than the same run in {there}; none is used: report "
            "the folders one by one, or delete the run's folder where it shall not count, or "
            f"compute it anew in both with --rerun {result.run_id}",
        )  # fmt: skip
        if first is not None:
            self._withdraw(result.run_id, "results that disagree")

    def _withdraw(self, run_id: str, cause: str) -> None:
        one = self.results.pop(run_id)
        self.table.take_back(one.number)
        self.withdrawn.add(run_id)
        self.unfinished[run_id] = Unfinished(run_id, one.out, "stale", cause, one.key)

    def _problem(self, kind: ProblemKind, source: Source, run_id: str, message: str) -> None:
        file = source.where(run_id, "result.json")
        self.problems.append(Problem(kind, source.out, file, message))

    def _unfinished(self, source: Source, run_id: str, problem: Problem | None) -> None:
        key, complaint = _read_key(source, run_id)
        if key is not None and not self.wanted(key):
            return
        self.problems.extend(one for one in (problem, complaint) if one is not None)
        state, cause = _state(source, run_id)
        if problem is not None:
            # It did run: a result that cannot be used is not the same as none planned yet.
            state = "stale" if state == "planned" else state
            cause = problem.message if state == "stale" else f"{problem.message}; {cause}"
        self.unfinished[run_id] = Unfinished(run_id, source.out, state, cause, key)

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


def _read_key(source: Source, run_id: str) -> tuple[RunKey | None, Problem | None]:
    """The point of the grid an unfinished run stands for, from its spec.json."""
    file = source.where(run_id, "spec.json")
    try:
        data = source.read(run_id, "spec.json")
    except OSError as error:
        message = f"{_unread(error)}, so what the run was is unknown"
        return None, Problem("broken", source.out, file, message)
    if data is None:
        return None, Problem("broken", source.out, file, "missing, so what the run was is unknown")
    try:
        return RunKey.model_validate(json.loads(data)["key"]), None
    except (ValueError, KeyError, TypeError):
        return None, Problem("broken", source.out, file, "not readable, so what it was is unknown")


def _unread(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def _state(source: Source, run_id: str) -> tuple[RunState, str]:
    """(state, cause) of a run without a usable result."""
    try:
        return _state_told(source, run_id)
    except OSError as error:
        return "stale", f"a file of it {_unread(error)}"


def _state_told(source: Source, run_id: str) -> tuple[RunState, str]:
    names = source.names(run_id)
    leases = [name for name in names if name.startswith("lease-")]
    # The holder's is the one of the highest number.
    beat = _heartbeat(source.read(run_id, leases[-1])) if leases else None
    if beat is not None and abs(time.time() - beat) < PATIENCE:
        return "running", ""
    if "stopped.json" in names:
        return "stopped", "a search found it not worth finishing"
    if "paused.json" in names:
        return "paused", "saved a checkpoint and ended; the same sweep command continues it"
    data = source.read(run_id, "failure.json") if "failure.json" in names else None
    if data is not None:
        try:
            failure = Failure.model_validate_json(data)
        except ValidationError:
            return "failed", "failure.json is broken"
        if not failure.went_on:
            # The recorded message may begin with the error's name itself.
            return "failed", failure.message.removeprefix(f"{failure.error}: ") or failure.error
    if data is not None or leases or "metrics.jsonl" in names:
        return "stale", "stopped without a word; the same sweep command continues it"
    return "planned", ""


def _heartbeat(lease: bytes | None) -> float | None:
    """When its holder wrote it, by the holder's clock; None if it is not there any more."""
    if lease is None:
        return None
    try:
        return float(json.loads(lease)["heartbeat"])
    except (ValueError, KeyError, TypeError):
        return 0.0  # half-written: somebody held it once
