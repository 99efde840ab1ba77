"""Reading metrics.jsonl, one record a line: kinds "start", "lists", "memory", "step" and "epoch".

Every attempt at a run begins with a "start" record, and one of the digests of its lists. A line
that is torn or damaged is skipped and counted, whoever reads the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tcclip.text_files import parse_json

Record = dict[str, Any]

_STEP = b'{"kind": "step"'  # how the line of a step begins


def epoch_seconds(value: float) -> float:
    """`value` as seconds since the epoch; ValueError for a time outside the years 1 to 9999.

    Such a time could not be shown as a date.
    """
    try:
        seconds = float(value)
        datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{value!r} is no time in seconds since 1970") from error
    return seconds


def read_records(metrics: bytes, all_steps: bool = True) -> tuple[list[Record], int]:
    """The records of a metrics.jsonl, in its order, and how many lines are torn or damaged.

    A record is a whole line, its newline included: a JSON object with `kind` (a text), `step` (an
    integer) and `time` (epoch seconds). Without `all_steps`, only the last of consecutive steps is
    parsed: much faster, since steps are most of the file.
    """
    records: list[Record] = []
    damaged = 0
    for line in reversed(metrics.splitlines(keepends=True)):
        later = records[-1]["kind"] if records else None
        if not all_steps and later == "step" and line.startswith(_STEP):
            continue
        record = _parse(line)
        if record is None:
            damaged += 1
        else:
            records.append(record)
    return records[::-1], damaged


def _parse(line: bytes) -> Record | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record: Record = parse_json(line, "metrics.jsonl")
        epoch_seconds(record["time"])
        kind, step, time = record["kind"], record["step"], record["time"]
    except (ValueError, LookupError, TypeError):
        return None
    readable = isinstance(kind, str) and isinstance(step, int) and isinstance(time, int | float)
    return record if readable else None


def read_epochs(metrics: bytes) -> tuple[list[Record], int]:
    """The records of epochs, and how many lines of the file are torn or damaged.

    `loss`: mean of the epoch; `top1`: percent, where it was validated.
    """
    records, damaged = read_records(metrics, all_steps=False)
    epochs = [one for one in records if one["kind"] == "epoch"]
    usable = [one for one in epochs if _is_epoch(one)]
    return usable, damaged + len(epochs) - len(usable)


def _is_epoch(record: Record) -> bool:
    loss, top1 = record.get("loss"), record.get("top1", 0.0)
    numbers = isinstance(loss, int | float) and isinstance(top1, int | float | None)
    return numbers and isinstance(record.get("epoch"), int)


@dataclass(frozen=True)
class Attempts:
    """All attempts at a run, and how far the last one is. Times in epoch seconds.

    `count`: starts, except those with a smaller batch after an out-of-memory error; `reduced` is
    the last record of such a reduction. `waited`: the share of the last attempt that it waited for
    data. `gpu_hours`: from each start to the last record before the
    next one, 0 on a CPU; `earlier_gpu_hours`: without the last attempt. What an attempt did after
    its last checkpoint is deleted by the next one, and not counted. None for what a file does not
    tell.
    """

    count: int = 0
    gpu_hours: float | None = None
    earlier_gpu_hours: float = 0.0
    start: Record = field(default_factory=dict)
    step: Record | None = None
    validated: Record | None = None
    clips_per_second: float | None = None
    latest: float = 0.0
    reduced: Record | None = None
    waited: float | None = None


def read_attempts(metrics: bytes) -> Attempts:
    """What a metrics.jsonl says of the run's attempts, of which none may have begun."""
    records, _ = read_records(metrics, all_steps=False)
    begins = [i for i, one in enumerate(records) if one["kind"] == "start"]
    if not begins:
        return Attempts()
    starts = [records[i] for i in begins]
    ends = [records[i - 1]["time"] for i in begins[1:]] + [records[-1]["time"]]
    reductions = [one for one in records if one["kind"] == "memory"]
    return Attempts(
        count=max(1, len(starts) - len(reductions)),
        gpu_hours=_gpu_hours(starts, ends),
        earlier_gpu_hours=_gpu_hours(starts[:-1], ends[:-1]),
        start=starts[-1],
        step=_last(records, "step"),
        validated=_last(records, "epoch", field="top1"),
        clips_per_second=_speed(records[begins[-1] :]),
        latest=ends[-1],
        reduced=reductions[-1] if reductions else None,
        waited=_waited(records[begins[-1] :]),
    )


def recorded_lists(metrics: bytes) -> dict[str, str]:
    """Data set and file -> sha256 of the lists the last attempt read; {} in an older file."""
    record = _last(read_records(metrics, all_steps=False)[0], "lists", field="digests")
    digests = {} if record is None else record["digests"]
    if not isinstance(digests, dict):  # damaged
        return {}
    return {name: digest for name, digest in digests.items() if isinstance(digest, str)}


def _last(records: Sequence[Record], kind: str, field: str = "kind") -> Record | None:
    """The last record of a kind that has `field`."""
    return next((one for one in reversed(records) if one["kind"] == kind and field in one), None)


def _gpu_hours(starts: list[Record], ends: list[float]) -> float:
    hours = 0.0
    for start, end in zip(starts, ends, strict=True):
        gpus = 0 if start["device"] == "cpu" else start.get("gpus", start["workers"])
        hours += max(0.0, end - start["time"]) * gpus / 3600
    return hours


def _waited(attempt: Sequence[Record]) -> float | None:
    start, step = attempt[0], _last(attempt, "step", field="waited")
    if step is None or step["time"] <= start["time"] or not isinstance(step["waited"], int | float):
        return None
    return float(min(1.0, max(0.0, step["waited"] / (step["time"] - start["time"]))))


def _speed(attempt: Sequence[Record]) -> float | None:
    """Training clips a second of the attempt with these records; validation is not counted."""
    start, step = attempt[0], _last(attempt, "step")
    if step is None:
        return None
    epochs = [one for one in attempt if one["kind"] == "epoch"]
    seconds = sum(epoch.get("train_seconds", 0.0) for epoch in epochs)
    # Of an epoch that is not over: from the validation before it, or from the start.
    if not epochs or epochs[-1]["step"] < step["step"]:
        seconds += step["time"] - (epochs[-1] if epochs else start)["time"]
    steps = step["step"] - start["step"]
    return float(steps * start["global_batch"] / seconds) if seconds > 0 and steps > 0 else None
