"""The attempts at a run, as its metrics tell them: a "start" record begins each one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Record = dict[str, Any]


def epoch_seconds(value: float | str) -> float:
    """`value` as seconds since the epoch; ValueError for what is no time between year 1 and 9999.

    So whoever shows it later can make a date of it.
    """
    try:
        seconds = float(value)
        datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{value!r} is no time in seconds since 1970") from error
    return seconds


@dataclass(frozen=True)
class Attempts:
    """All attempts at a run, and how far the last one is. Times in epoch seconds.

    `count`: starts, but for those with a smaller batch since memory was short; of the last of those
    is `reduced`. `gpu_hours`: from each start to the last record before the next, 0 on a CPU. What
    an attempt did after its last checkpoint is cut off by the next one, and not in here;
    `earlier_gpu_hours` are without the last attempt. None for what a file does not tell: older ones
    have no host, device, workers or batch in their start records.
    """

    count: int
    gpu_hours: float | None
    earlier_gpu_hours: float | None
    start: Record
    step: Record | None
    validated: Record | None
    clips_per_second: float | None
    latest: float
    reduced: Record | None = None


def read_attempts(metrics: bytes) -> Attempts | None:
    """What a metrics.jsonl tells; None if nothing was begun. A half-written line is left out."""
    whole = metrics[: metrics.rfind(b"\n") + 1]
    starts = list(_records(whole, b"start"))
    if not starts:
        return None
    begin, start = starts[-1]
    present = whole[begin:]
    ats = [at for at, _ in starts[1:]] + [len(whole)]
    ends = [_last_time(whole[:at], one["time"]) for at, (_, one) in zip(ats, starts, strict=True)]
    found = list(_records(whole, b"epoch"))
    epochs = [record for _, record in found]
    records, smaller = [record for _, record in starts], list(_records(whole, b"memory"))
    return Attempts(
        count=max(1, len(starts) - len(smaller)),
        gpu_hours=_gpu_hours(records, ends),
        earlier_gpu_hours=_gpu_hours(records[:-1], ends[:-1]),
        start=start,
        step=_latest(whole, b"step"),
        validated=next((one for one in reversed(epochs) if "top1" in one), None),
        clips_per_second=_speed(start, present, [one for at, one in found if at > begin]),
        latest=ends[-1],
        reduced=smaller[-1][1] if smaller else None,
    )


def read_epochs(metrics: bytes) -> tuple[list[Record], int]:
    """The records of epochs in a metrics.jsonl, and how many such lines cannot be read.

    `loss`: mean of the epoch; `top1`: percent, where it was validated.
    """
    found, bad = [], 0
    for line in metrics.splitlines():
        # Steps are most of the file: only the lines of epochs are parsed.
        if b'"epoch"' not in line or b'"kind": "step"' in line:
            continue
        try:
            record = json.loads(line)
            if record["kind"] == "epoch":
                int(record["epoch"]), float(record["loss"]), float(record.get("top1") or 0.0)
                found.append(record)
        except (ValueError, KeyError, TypeError):
            bad += 1
    return found, bad


def _records(data: bytes, kind: bytes) -> Iterator[tuple[int, Record]]:
    """Where each record of a kind begins, and the record. Searching is faster than parsing all."""
    mark = b'{"kind": "%s"' % kind  # as the journal begins them
    at = data.find(mark)
    while at >= 0:
        record = _parse(data, at)
        if record is not None:
            yield at, record
        at = data.find(mark, at + 1)


def _latest(data: bytes, kind: bytes) -> Record | None:
    mark = b'{"kind": "%s"' % kind
    at = data.rfind(mark)
    while at >= 0:
        record = _parse(data, at)
        if record is not None:
            return record
        at = data.rfind(mark, 0, at)
    return None


def _last_time(data: bytes, otherwise: float) -> float:
    """When the last of some whole lines was written."""
    end = len(data)
    while end > 0:
        at = data.rfind(b"\n", 0, end - 1) + 1
        record = _parse(data, at)
        if record is not None:
            return float(record["time"])
        end = at
    return otherwise


def _parse(data: bytes, at: int) -> Record | None:
    """The record in the line that begins at `at`; None for one that a full disk cut short, or
    whose time or step is none."""
    try:
        record: Record = json.loads(data[at : data.find(b"\n", at)])
        epoch_seconds(record["time"]), int(record["step"])
    except (ValueError, LookupError, TypeError, OverflowError):
        return None
    return record


def _gpu_hours(starts: list[Record], ends: list[float]) -> float | None:
    hours = 0.0
    for start, end in zip(starts, ends, strict=True):
        if "device" not in start:
            return None
        gpus = 0 if start["device"] == "cpu" else start["workers"]
        hours += max(0.0, end - start["time"]) * gpus / 3600
    return hours


def _speed(start: Record, present: bytes, epochs: list[Record]) -> float | None:
    """Training clips a second of the attempt that `start` began; validation is not counted.

    `present`: its lines, `epochs`: its epochs' records.
    """
    step = _latest(present, b"step")
    if step is None or "global_batch" not in start:
        return None
    seconds = sum(epoch.get("train_seconds", 0.0) for epoch in epochs)
    # Of an epoch that is not over: from the validation before it, or from the start.
    if not epochs or epochs[-1]["step"] < step["step"]:
        seconds += step["time"] - (epochs[-1] if epochs else start)["time"]
    steps = step["step"] - start["step"]
    return float(steps * start["global_batch"] / seconds) if seconds > 0 and steps > 0 else None
