"""What every run is doing, read from its files alone: also while a sweep runs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.ledger import Ledger, RunFolder, State

#: The end of metrics.jsonl that is read: enough for the latest records of each kind.
TAIL_BYTES = 64_000


@dataclass(frozen=True)
class RunStatus:
    """One run as its files tell it. Seconds for times, percent for accuracy."""

    run_id: str
    state: State
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    top1: float | None = None
    seconds_left: float | None = None
    error: str | None = None


def run_status(folder: RunFolder) -> RunStatus:
    """The status of the run in `folder`."""
    state = folder.state()
    latest = _latest(_tail(folder))
    start, step, epoch = latest.get("start"), latest.get("step"), latest.get("epoch")
    failure = folder.read_failure() if state is State.FAILED else None
    return RunStatus(
        run_id=folder.run_id,
        state=state,
        epoch=_get(step, "epoch"),
        epochs=_get(start, "epochs"),
        step=_get(step, "step"),
        total_steps=_get(start, "total_steps"),
        loss=_get(step, "loss"),
        top1=_get(latest.get("validated"), "top1") or _get(epoch, "top1"),
        seconds_left=_left(start, step) if state is State.RUNNING else None,
        error=failure.message if failure else None,
    )


def statuses(ledger: Ledger, run_ids: Sequence[str] | None = None) -> list[RunStatus]:
    """Status of the named runs, or of every run there is."""
    if run_ids is None:
        return [run_status(folder) for folder in ledger.folders()]
    return [run_status(ledger.folder(run_id)) for run_id in run_ids]


def validations(folder: RunFolder) -> list[tuple[int, float]]:
    """(epoch, top-1 percent) of every validation so far, from the whole metrics file."""
    if not folder.metrics.exists():
        return []
    records = []
    for line in folder.metrics.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return [(int(r["epoch"]), float(r["top1"])) for r in records if "top1" in r]


def _tail(folder: RunFolder) -> list[dict[str, Any]]:
    try:
        with folder.metrics.open("rb") as file:
            head = file.readline()
            size = file.seek(0, 2)
            file.seek(max(len(head), size - TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return []
    lines = [head, *tail.split(b"\n")]
    if size - TAIL_BYTES > len(head):
        del lines[1]  # begins in the middle of a line
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # the line being written just now
    return records


def _latest(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    latest = {}
    for record in records:
        latest[record["kind"]] = record
        if "top1" in record:
            latest["validated"] = record
    return latest


def _get(record: dict[str, Any] | None, name: str) -> Any:
    return None if record is None else record.get(name)


def _left(start: dict[str, Any] | None, step: dict[str, Any] | None) -> float | None:
    """Seconds to the last step at the speed since this attempt started; evaluation not counted."""
    if start is None or step is None or step["step"] <= start["step"]:
        return None
    speed = (step["step"] - start["step"]) / max(step["time"] - start["time"], 1e-6)
    return float((start["total_steps"] - step["step"]) / speed)
