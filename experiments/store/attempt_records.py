"""Records in a run folder: an attempt begins, fails, pauses or is stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

from experiments.errors import LeaseLost, StorageError
from experiments.store.append_file import AppendFile
from experiments.store.files import remove, write_text
from experiments.store.lease import Lease
from results.reading.run_folder import RunFolder
from results.records import Failure

log = logging.getLogger(__name__)


def record_start(folder: RunFolder) -> None:
    """An attempt begins: the records of the previous one no longer give the run's state."""
    remove(folder.paused)
    failure = folder.read_failure()
    if failure is not None and not failure.went_on:
        went_on = failure.model_copy(update={"went_on": True})
        write_text(folder.failure, went_on.model_dump_json(indent=1))


def record_failure(
    folder: RunFolder, error: str, message: str, traceback: str, permanent: bool = False
) -> Failure:
    """Write failure.json, numbered one higher than the previous failure.

    `permanent`: another attempt would fail in the same way.
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
    remove(folder.paused)  # of an earlier attempt
    return failure


def record_pause(folder: RunFolder, reason: str) -> None:
    """Write paused.json: the attempt saved a checkpoint and ended on request."""
    content = {"run_id": folder.run_id, "reason": reason, "time": _now()}
    write_text(folder.paused, json.dumps(content))


def record_stop(folder: RunFolder, reason: str, metrics: Mapping[str, Any]) -> None:
    """Write stopped.json: a search ended the run early."""
    kept = {name: metrics[name] for name in ("epoch", "top1") if name in metrics}
    write_text(folder.stopped, json.dumps({"run_id": folder.run_id, "reason": reason, **kept}))


def append_to_log(folder: RunFolder, lease: Lease, text: str) -> None:
    """Append a line to the run's own log, between two attempts; errors of the log are ignored."""
    log.info("%s: %s", folder.run_id, text)
    with (
        suppress(OSError, StorageError, LeaseLost),
        closing(AppendFile(folder.log, lease.check)) as file,
        file.local.open("a", encoding="utf-8") as lines,
    ):
        lines.write(f"{datetime.now():%Y-%m-%d %H:%M:%S},000 INFO {__name__}: {text}\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
