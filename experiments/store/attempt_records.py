"""What is written into a run folder when an attempt begins or ends without a result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from experiments.store.files import remove, write_text
from results.reading.run_folder import RunFolder
from results.records import Failure


def record_start(folder: RunFolder) -> None:
    """An attempt begins: how the one before ended is no longer the state of the run."""
    remove(folder.paused)
    failure = folder.read_failure()
    if failure is not None and not failure.went_on:
        went_on = failure.model_copy(update={"went_on": True})
        write_text(folder.failure, went_on.model_dump_json(indent=1))


def record_failure(
    folder: RunFolder, error: str, message: str, traceback: str, permanent: bool = False
) -> Failure:
    """Write failure.json; the attempt number counts on from the record before.

    `permanent`: another attempt would end the same way.
    """
    before = folder.read_failure()
    failure = Failure(
        run_id=folder.run_id,
        error=error,
        message=message,
        traceback=traceback,
        attempt=1 if before is None else before.attempt + 1,
        time=_now(),
        repeats=permanent,
    )
    write_text(folder.failure, failure.model_dump_json(indent=1))
    remove(folder.paused)  # of an attempt before
    return failure


def record_pause(folder: RunFolder, reason: str) -> None:
    """Write paused.json: the attempt saved a checkpoint and ended, as it was asked to."""
    content = {"run_id": folder.run_id, "reason": reason, "time": _now()}
    write_text(folder.paused, json.dumps(content))


def record_stop(folder: RunFolder, reason: str, metrics: Mapping[str, Any]) -> None:
    """Write stopped.json: a search found the run not worth finishing."""
    kept = {name: metrics[name] for name in ("epoch", "top1") if name in metrics}
    write_text(folder.stopped, json.dumps({"run_id": folder.run_id, "reason": reason, **kept}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
