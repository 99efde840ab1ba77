"""`tcclip runs list` and `show`: what is in run folders."""

from __future__ import annotations

import fnmatch
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import UserError
from experiments.monitor.status_table import NONE, chosen_states, count_states, duration
from experiments.monitor.table import print_json, print_rows
from experiments.store.files import sizes
from experiments.store.ledger import Ledger, check_runs
from results.printing import aligned, printable, show
from results.reading.location import RECORD_BYTES, Location, escaped, read_bytes
from results.reading.run_folder import RunFolder
from results.reading.status import RunStatus, run_status
from results.records import Result
from tcclip.text_files import parse_json

#: Lines of a run's log that are shown.
LOG_LINES = 10


def choose(out: Location, patterns: Sequence[str]) -> list[RunFolder]:
    """The run folders that the ids and patterns name. UserError for one that names none."""
    check_runs(out)
    ledger, found = Ledger(out), dict[str, RunFolder]()
    folders = {folder.run_id: folder for folder in ledger.folders()}
    for pattern in patterns:
        names = fnmatch.filter(folders, pattern)
        if not names and pattern != "*":
            raise UserError(f"no run in {out} matches {pattern!r}; `tcclip runs list` shows them")
        found |= {name: folders[name] for name in names}
    return list(found.values())


def starts_from(folder: RunFolder) -> tuple[str | None, bool]:
    """The run that a run starts from, and whether it goes on with its training; (None, False) too
    where its spec cannot be read."""
    try:
        spec = parse_json(read_bytes(folder.spec, RECORD_BYTES) or b"", str(folder.spec))
        parent = spec["parent"]
    except (ValueError, LookupError, TypeError):
        return None, False
    return (parent if isinstance(parent, str) else None), spec.get("extends") is not None


def children(out: Location) -> dict[str, list[str]]:
    """Run id -> the runs that start from it."""
    ledger, found = Ledger(out), defaultdict[str, list[str]](list)
    folders = ledger.folders()
    parents = ledger.for_each(starts_from, folders)
    for folder, (parent, _) in zip(folders, parents, strict=True):
        if parent is not None:
            found[parent].append(folder.run_id)
    return found


def size_text(size: float) -> str:
    """`1.2 GB`, `3.4 MB`, `12 kB`."""
    for unit, of in (("GB", 1e9), ("MB", 1e6)):
        if size >= of:
            return f"{size / of:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


# ---- A list ----


@dataclass(frozen=True)
class _Row:
    status: RunStatus
    size: int
    parent: str | None
    extends: bool

    @classmethod
    def of(cls, folder: RunFolder) -> _Row:
        return cls(run_status(folder), sum(sizes(folder.path).values()), *starts_from(folder))

    def as_json(self) -> dict[str, Any]:
        more = {"bytes": self.size, "parent": self.parent, "extends": self.extends}
        return self.status.as_json() | more

    def cells(self) -> list[str]:
        """Its row of the table."""
        one = self.status
        since = NONE if one.since is None else _time(one.since)
        epoch = f"{one.epoch or 0}/{one.epochs}" if one.epochs else NONE
        top1 = NONE if one.top1 is None else f"{one.top1:.1f}"
        start = (self.parent or "").rpartition("-")[2]
        start = f"extends {start}" if self.extends else start
        return [one.run_id, str(one.state), since, epoch, top1, size_text(self.size), start]


def print_list(out: Location, patterns: Sequence[str], state: str | None, format: str) -> None:
    """Print the runs that the patterns name, those in a state ("running,failed") alone."""
    states = chosen_states(state)
    rows = Ledger(out).for_each(_Row.of, choose(out, patterns))
    rows = [row for row in rows if states is None or row.status.state in states]
    if format == "json":
        print_json([row.as_json() for row in rows])
        return
    total = size_text(sum(row.size for row in rows))
    title = f"{count_states([row.status.state for row in rows])}; {total}"
    head = ["run", "state", "since", "epoch", "val %", "size", "starts from"]
    cells = [row.cells() for row in rows]
    if not any(row.parent for row in rows):
        head, cells = head[:-1], [row[:-1] for row in cells]
    print_rows(title, head, cells, format, left=3)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


# ---- One run ----


def print_run(out: Location, pattern: str, format: str) -> None:
    """Print all there is to know of a run. UserError unless the pattern names one."""
    folder, *others = choose(out, [pattern])
    if others:
        names = ", ".join(one.run_id for one in (folder, *others))
        raise UserError(f"{pattern!r} matches {1 + len(others)} runs, name one: {names}")
    row, result = _Row.of(folder), folder.read_result()
    spec = parse_json(read_bytes(folder.spec, RECORD_BYTES) or b"{}", str(folder.spec))
    settings = spec.get("key", {}).get("overrides", [])
    needed_by, files, log = children(out).get(folder.run_id, []), sizes(folder.path), _log(folder)
    if format == "json":
        content = row.as_json() | {
            "folder": str(folder.path),
            "settings": settings,
            "needed_by": needed_by,
            "numbers": [] if result is None else [one.model_dump() for one in result.measurements],
            "provenance": None if result is None else result.provenance.model_dump(mode="json"),
            "files": files,
            "log_end": log,
        }
        print_json([content])
        return
    facts = {
        "run": folder.run_id,
        "state": _state(row.status, result),
        "folder": str(folder.path),
        "settings": ", ".join(map(str, settings)) or "the protocol's own",
        "goes on with" if row.extends else "starts from": row.parent,
        "needed by": ", ".join(needed_by),
        "computed": _computed(row.status, result),
        "error": row.status.error,
    }
    sections = [
        [f"{name:<12}  {text}" for name, text in facts.items() if text],
        [] if result is None else aligned(*_numbers(result), left=4),
        aligned(["file", "size"], [[name, size_text(size)] for name, size in files.items()], 1),
        [f"the end of {folder.log}:", *log] if log else [],
    ]
    text = "\n\n".join("\n".join(lines) for lines in sections if lines)
    show(f"```\n{text}\n```" if format == "md" else text, format)


def _state(status: RunStatus, result: Result | None) -> str:
    text = str(status.state) + (f" since {_time(status.since)}" if status.since else "")
    if status.epochs:
        text += f", epoch {status.epoch or 0} of {status.epochs}"
    if result is not None and result.selection.best_epoch:
        text += f"; epoch {result.selection.best_epoch} selected ({result.selection.rule})"
    return text


def _computed(status: RunStatus, result: Result | None) -> str:
    """Where, how long and with which code."""
    parts = [f"{status.workers} x {status.device} of {status.node}"] if status.device else []
    if status.attempts:
        parts.append(f"{status.attempts} attempt{'s' * (status.attempts > 1)}")
    if status.gpu_hours:
        parts.append(f"{status.gpu_hours:.1f} GPU-hours")
    if result is not None:
        one = result.provenance
        parts += [duration(one.wall_seconds), f"{one.precision}, micro-batch {one.micro_batch}"]
        changed = " with changes" if one.git_dirty else ""
        parts += [f"commit {one.git_commit[:12]}{changed}"] if one.git_commit else []
        parts += [f"{name} {one.packages[name]}" for name in ("torch",) if name in one.packages]
    return ", ".join(parts)


def _numbers(result: Result) -> tuple[list[str], list[list[str]]]:
    """A row for each metric of a list, a column for each weight set and checkpoint."""
    kinds = sorted({(one.checkpoint, one.weights) for one in result.measurements})
    rows = defaultdict[tuple[str, ...], dict[tuple[str, str], str]](dict)
    for one in result.measurements:
        name = (one.suite, one.split, one.metric, one.views, str(one.videos))
        rows[name][one.checkpoint, one.weights] = f"{one.value:.2f}"
    head = ["tested on", "list", "metric", "views", "videos", *map(" ".join, kinds)]
    return head, [
        [*name, *(cells.get(kind, NONE) for kind in kinds)] for name, cells in rows.items()
    ]


def _log(folder: RunFolder) -> list[str]:
    text = (read_bytes(folder.log) or b"").decode(errors="replace")
    return [printable(escaped(line)) for line in text.splitlines()[-LOG_LINES:]]
