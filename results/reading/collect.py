"""From run folders to results.

A file that cannot be used is a `Problem`, a run without a usable result is an `Unfinished`; every
report shows both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from pydantic.dataclasses import dataclass as checked

from results.errors import StorageError
from results.reading.location import RECORD_BYTES, Text, is_local, location, read_bytes
from results.reading.run_filter import RunFilter, point_of
from results.reading.run_folder import (
    RunFolder,
    State,
    parse_result,
    run_folders,
    without_control,
)  # fmt: skip
from results.records import SCHEMA_VERSION, Result, RunKey
from tcclip.text_files import parse_json

ProblemKind = Literal["broken", "schema", "folder", "duplicate", "superseded", "conflict"]

#: Why a run has no result, for states that do not say it themselves.
_CAUSES = {
    State.STOPPED: "a search found it not worth finishing",
    State.PAUSED: "saved a checkpoint and ended; the same sweep command continues it",
    State.STALE: "stopped without a word; the same sweep command continues it",
}


@checked(frozen=True)
class Problem:
    """A file that was not used, or not as it is, and why."""

    kind: ProblemKind
    out: str
    file: Text
    message: Text

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@checked(frozen=True)
class Unfinished:
    """A run without a usable result. `key` is None if its spec cannot be read either."""

    run_id: Text
    out: str
    state: State
    cause: Text
    key: RunKey | None

    def __str__(self) -> str:
        return self.state + (f": {self.cause}" if self.cause else "")


@dataclass(frozen=True)
class Collected:
    """Everything under some output folders that a report is made of.

    `finished`: (output folder, result). `names`: run id -> the name that its row was given, where
    one was. `run_ids`: of all folders there are of the protocol; `left_out`: how many of them a
    filter left out.
    """

    finished: tuple[tuple[str, Result], ...]
    problems: tuple[Problem, ...]
    unfinished: tuple[Unfinished, ...]
    names: Mapping[str, str]
    run_ids: tuple[str, ...]
    left_out: int

    @property
    def trained_on(self) -> set[str]:
        """The data sets of the runs, finished or not."""
        keys = [result.key for _, result in self.finished]
        return {key.dataset for key in (*keys, *(one.key for one in self.unfinished)) if key}


def collect(
    outs: Sequence[Path | str] | Path | str,
    protocol: str | None = None,
    demo: bool | None = None,
    asked_for: Collection[str] = (),
    meant: RunFilter | None = None,
) -> Collected:
    """Read every run folder of `outs`; None means any protocol, demo or not.

    `meant`: the runs that are read, by default all. `asked_for`: ids of runs that count before
    newer ones of their points with other lists.
    FileNotFoundError if an output folder does not exist, StorageError if a store is out of reach.
    Anything else that is wrong with a run is named in `problems`, and the run is unfinished.
    """
    collector = _Collector(protocol, demo, asked_for)
    for out in [outs] if isinstance(outs, Path | str) else outs:
        for folder in run_folders(location(out)):
            named = point_of(folder.run_id).get("protocol", protocol)
            if protocol not in (None, named):
                continue
            collector.run_ids[folder.run_id] = None
            if meant is None or meant(folder):
                collector.add(folder, str(out))
            else:
                collector.left_out += 1
    return collector.collected()


class _Collector:
    """What has been read so far. `results`: run id -> (output folder, result) wherever it is."""

    def __init__(self, protocol: str | None, demo: bool | None, asked_for: Collection[str]) -> None:
        self.protocol, self.demo, self.asked_for = protocol, demo, asked_for
        self.results: dict[str, list[tuple[str, Result]]] = defaultdict(list)
        self.problems: list[Problem] = []
        self.unfinished: dict[str, Unfinished] = {}
        self.names: dict[str, str] = {}
        self.run_ids: dict[str, None] = {}
        self.left_out = 0

    def add(self, folder: RunFolder, out: str) -> None:
        """Read one run folder of the output folder `out`."""
        result = _read_result(folder, out)
        if not isinstance(result, Result):
            self._add_unfinished(folder, out, result)
        elif self._is_wanted(result.key):
            if result.run_id == folder.run_id:
                self.results[result.run_id].append((out, result))
                self._add_name(folder)
                return
            message = f"is the result of {result.run_id}, in a folder of another name; not used"
            self._add_problem("folder", out, folder.run_id, message)

    def _is_wanted(self, key: RunKey) -> bool:
        return self.protocol in (None, key.protocol) and self.demo in (None, key.demo)

    def _add_problem(self, kind: ProblemKind, out: str, run_id: str, message: str) -> None:
        """Name a result that is not used, or not as it is."""
        self.problems.append(Problem(kind, out, f"runs/{run_id}/result.json", message))

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
        self._add_name(folder)

    def _add_name(self, folder: RunFolder) -> None:
        """The first name of the output folders counts."""
        if (name := folder.read_name()) is not None:
            self.names.setdefault(folder.run_id, name)

    def collected(self) -> Collected:
        """Everything that was added."""
        by_key: dict[RunKey, list[tuple[str, Result]]] = defaultdict(list)
        for several in self.results.values():
            if self._agree(several):
                by_key[several[0][1].key].append(several[0])
        points = map(self._with_same_lists, by_key.values())
        finished = [same[0] for same in points if self._is_alone(same)]
        run_ids = {result.run_id for _, result in finished}
        # A run that is finished in one output folder may be unfinished in another.
        unfinished = [one for name, one in self.unfinished.items() if name not in run_ids]
        unfinished.sort(key=lambda one: one.run_id)
        return Collected(
            tuple(finished), tuple(self.problems), tuple(unfinished), self.names,
            tuple(self.run_ids), self.left_out,
        )  # fmt: skip

    def _agree(self, several: Sequence[tuple[str, Result]]) -> bool:
        """Whether a run's numbers are the same in all output folders; if not, none is used."""
        (first_out, first), *others = several
        for out, result in others:
            kind: ProblemKind = "duplicate"
            message = f"also in {first_out}; counted once"
            if result.measurements != first.measurements:
                kind = "conflict"
                message = (
                    f"other numbers ({_origin(result)}) than the same run in {first_out} "
                    f"({_origin(first)}); none is used: report the folders one by one, or delete "
                    "the run's folder where it shall not count, or compute it anew in both with "
                    f"--rerun {result.run_id}"
                )
            self._add_problem(kind, out, result.run_id, message)
        if all(result.measurements == first.measurements for _, result in others):
            return True
        self._exclude(first_out, first, "results that disagree")
        return False

    def _exclude(self, out: str, result: Result, cause: str) -> None:
        one = Unfinished(result.run_id, out, State.STALE, cause, result.key)
        self.unfinished[result.run_id] = one

    def _with_same_lists(self, same: list[tuple[str, Result]]) -> list[tuple[str, Result]]:
        """Without the runs of a point that read other lists than the one that counts: that which
        is asked for, else the newest."""
        used = max(
            (result for _, result in same),
            key=lambda one: (one.run_id in self.asked_for, one.provenance.finished),
        )
        why = "was asked for" if used.run_id in self.asked_for else "is newer"
        kept = []
        for out, result in same:
            then, now = _lists(result), _lists(used)
            changed = sorted({name for name, _ in then ^ now})
            if not (then and now and changed):
                kept.append((out, result))
                continue
            message = (
                f"had other lists, class names or packs than {used.run_id}, which {why} and alone "
                f"is used: {', '.join(changed)}; give data sets that both count names of their own"
            )
            self._add_problem("superseded", out, result.run_id, message)
        return kept

    def _is_alone(self, same: Sequence[tuple[str, Result]]) -> bool:
        """Whether a point of the grid has one run: an average over two would count it twice."""
        if len(same) == 1:
            return True
        newest = max((result for _, result in same), key=lambda one: one.provenance.finished).run_id
        for out, result in same:
            run_id = result.run_id
            others = ", ".join(other.run_id for _, other in same if other.run_id != run_id)
            advice = "keep it and delete the folders of the others"
            if run_id != newest:
                advice = f"the newest is {newest}, so delete the folder of this one"
            message = (
                f"stands for the same point of the grid as {others}; none is used. This one "
                f"{_origin(result)}: {advice}, or give them different --out folders"
            )
            self._add_problem("conflict", out, run_id, message)
            self._exclude(out, result, f"same point of the grid as {others}")
        return False


def _lists(result: Result) -> set[tuple[str, str]]:
    """The lists and label files of a run, `data set/file`, with their sha256."""
    return {(name, one) for name, one in result.provenance.digests.items() if "/" in name}


def _origin(result: Result) -> str:
    """When and by which code: `finished 2026-01-01T01:00:00+00:00 with commit 0123456789ab`."""
    one = result.provenance
    commit = "an unknown commit" if one.git_commit is None else f"commit {one.git_commit[:12]}"
    return f"finished {one.finished} with {commit}{' and changes' if one.git_dirty else ''}"


def _read_result(folder: RunFolder, out: str) -> Result | Problem | None:
    """The run's result, None if there is none, or why it cannot be used."""
    file = folder.name_of(folder.result)
    try:
        data = read_bytes(folder.result, RECORD_BYTES)
        return None if data is None else parse_result(data)
    except StorageError as error:
        return Problem("broken", out, file, _unreadable(folder, error))
    except ValidationError as error:
        kind, message = _diagnose(data or b"", error)
        return Problem(kind, out, file, message)


def _diagnose(data: bytes, error: ValidationError) -> tuple[ProblemKind, str]:
    """What is wrong with a result.json that does not validate."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return "broken", f"half-written: {len(data)} bytes that are no whole JSON"
    if first["loc"] == ("schema_version",):
        return "schema", f"schema version {first['input']!r}; this version reads {SCHEMA_VERSION}"
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return "broken", f"{place}: {first['msg']}{more}"


def _read_key(folder: RunFolder, out: str) -> tuple[RunKey | None, Problem | None]:
    """The point of the grid an unfinished run stands for, from its spec.json."""
    try:
        data = read_bytes(folder.spec, RECORD_BYTES)
        if data is not None:
            key = parse_json(without_control(data), folder.name_of(folder.spec))["key"]
            return RunKey.model_validate(key), None
        cause = "missing"
    except StorageError as error:
        cause = _unreadable(folder, error)
    except (ValueError, KeyError, TypeError):
        cause = "not readable"
    message = f"{cause}, so what the run was is unknown"
    return None, Problem("broken", out, folder.name_of(folder.spec), message)


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
