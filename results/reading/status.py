"""What a run is doing, read from its files alone, also while a sweep runs elsewhere."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from pydantic.dataclasses import dataclass

from results.errors import StorageError
from results.reading.holder import Holder, read_holder
from results.reading.location import Text, is_local, read_bytes, stamp
from results.reading.metrics_log import Attempts, Record, read_attempts
from results.reading.run_folder import RunFolder, State
from results.records import Failure, Result


@dataclass(frozen=True)
class RunStatus:
    """One run as its files tell it; None for what they do not tell (yet).

    Seconds for times, percent for accuracy, training clips a second. `node`, `device`, `workers`,
    `clips_per_second`: of the latest attempt. `since`, in epoch seconds: the start of a running
    attempt, the last sign of life of a stale run, the end of another. `reduced`: the smaller batch
    after an out of memory. `waited`: the share of the latest attempt that it waited for data.
    ValidationError for values of other types.
    """

    run_id: Text
    state: State
    name: Text | None = None
    node: Text | None = None
    device: Text | None = None
    workers: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    clips_per_second: float | None = None
    top1: float | None = None
    seconds_left: float | None = None
    gpu_hours: float | None = None
    attempts: int | None = None
    since: float | None = None
    error: Text | None = None
    reduced: Text | None = None
    waited: float | None = None
    log: Text | None = None

    @property
    def protocol(self) -> str:
        """The protocol the run belongs to."""
        return self.run_id.partition("-")[0]

    def as_json(self) -> dict[str, Any]:
        """Every field; `since` as ISO 8601."""
        since = None
        if self.since is not None:
            since = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return {**asdict(self), "since": since}


def run_status(folder: RunFolder) -> RunStatus:
    """The status of the run in `folder`, which may change or vanish while it is read.

    One whose files cannot be understood is a stale run with an error. StorageError if a store is
    out of reach.
    """
    try:
        status = _read_status(folder)
        name = folder.read_name()
        return status if name is None else replace(status, name=name)
    except (LookupError, TypeError, ArithmeticError, ValueError, AttributeError) as error:
        if isinstance(error, StorageError) and not is_local(folder.path):
            raise
        cause = f"{type(error).__name__}: {error}"
        return RunStatus(folder.run_id, State.STALE, error=f"unreadable: {folder.path}: {cause}")


def _read_status(folder: RunFolder) -> RunStatus:
    done = folder.read_result()
    if done is not None:
        return _finished(folder.run_id, done)
    state = folder.state()
    if state is State.FINISHED:  # it finished in the meantime
        return _read_status(folder)
    if state is State.PLANNED:
        return RunStatus(folder.run_id, state)
    return _unfinished(folder, state)


def _finished(run_id: str, result: Result) -> RunStatus:
    done, epoch = result.provenance, result.selection.last_epoch
    return RunStatus(
        run_id=run_id,
        state=State.FINISHED,
        node=done.host,
        device=done.device,
        workers=done.world_size,
        epoch=epoch,
        epochs=epoch,
        clips_per_second=done.clips_per_second,
        top1=result.selection.best_value,
        gpu_hours=done.gpu_hours,
        attempts=done.attempts,
        waited=done.waited_for_data,
        since=datetime.fromisoformat(done.finished).timestamp(),
    )


def _unfinished(folder: RunFolder, state: State) -> RunStatus:
    attempts = read_attempts(read_bytes(folder.metrics) or b"")
    holder = read_holder(folder.path)
    failure = folder.read_failure() if state is State.FAILED else None
    start, step = attempts.start, attempts.step or {}
    running, host = state is State.RUNNING, holder.host if holder else None
    reduced = "{setting} {after} instead of {before}"
    return RunStatus(
        run_id=folder.run_id,
        state=state,
        node=host if running and host else start.get("host", host),
        device=start.get("device"),
        workers=start.get("workers"),
        epoch=step.get("epoch"),
        epochs=start.get("epochs"),
        step=step.get("step"),
        total_steps=start.get("total_steps"),
        loss=step.get("loss"),
        clips_per_second=attempts.clips_per_second,
        top1=(attempts.validated or {}).get("top1"),
        seconds_left=_seconds_left(start, step) if running else None,
        gpu_hours=attempts.gpu_hours,
        # An attempt that fails before its training begins leaves no start record.
        attempts=max(attempts.count, failure.attempt if failure else 0) or None,
        since=_since(state, attempts, holder, failure),
        error=_error(folder, state, failure),
        reduced=reduced.format_map(attempts.reduced) if attempts.reduced is not None else None,
        waited=attempts.waited,
        log=str(folder.log),
    )


def _error(folder: RunFolder, state: State, failure: Failure | None) -> str | None:
    if failure is not None:
        return failure.message
    if state is State.FAILED:
        return f"{folder.failure} is damaged; see {folder.log}"
    if state is State.STALE and stamp(folder.result) is not None:
        return f"{folder.result} is damaged or cut short; the same sweep command computes it again"
    return None


def _since(
    state: State, attempts: Attempts, holder: Holder | None, failure: Failure | None
) -> float | None:
    if state is State.RUNNING:
        return attempts.start.get("time")
    if failure is not None:
        return datetime.fromisoformat(failure.time).timestamp()
    return max(attempts.latest, holder.heartbeat if holder else 0.0) or None


def _seconds_left(start: Record, step: Record) -> float | None:
    """Seconds to the last step at the speed of this attempt; None in the final tests."""
    if not start or not step or not start["step"] < step["step"] < start["total_steps"]:
        return None
    steps_per_second = (step["step"] - start["step"]) / max(step["time"] - start["time"], 1e-6)
    return float((start["total_steps"] - step["step"]) / steps_per_second)
