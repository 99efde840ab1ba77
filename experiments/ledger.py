"""The run ledger: run folders and what state each run is in. Files are the truth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.errors import OutputUnusable
from experiments.files import unusable, write_text
from experiments.lease import read_holder
from experiments.spec import RunSpec
from results.records import Failure, Result


class State(StrEnum):
    """What a run's folder says of it."""

    PLANNED = "planned"
    RUNNING = "running"
    STALE = "stale"
    FAILED = "failed"
    STOPPED = "stopped"
    FINISHED = "finished"


#: States in which nothing is left to do: a search stopped the run early, or it has its result.
ENDED = (State.STOPPED, State.FINISHED)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run under `<out>/runs/<run_id>/`."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def failure(self) -> Path:
        return self.path / "failure.json"

    @property
    def stopped(self) -> Path:
        return self.path / "stopped.json"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.pt"

    def predictions(self, suite: str, split: str) -> Path:
        return self.path / "predictions" / suite / f"{split}.parquet"

    def read_result(self) -> Result | None:
        """The result if it is there and validates, else None: the run is not finished."""
        try:
            return Result.model_validate_json(self.result.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def read_failure(self) -> Failure | None:
        """Why the last attempt stopped, if it did and the record is whole."""
        try:
            return Failure.model_validate_json(self.failure.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def fail(self, error: str, message: str, traceback: str) -> Failure:
        """Write failure.json; the attempt number counts on from the record before."""
        before = self.read_failure()
        failure = Failure(
            run_id=self.run_id,
            error=error,
            message=message,
            traceback=traceback,
            attempt=1 if before is None else before.attempt + 1,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_text(self.failure, failure.model_dump_json(indent=1))
        return failure

    def stop(self, reason: str, metrics: Mapping[str, Any]) -> None:
        """Write stopped.json: a search found the run not worth finishing."""
        kept = {name: metrics[name] for name in ("epoch", "top1") if name in metrics}
        write_text(self.stopped, json.dumps({"run_id": self.run_id, "reason": reason, **kept}))

    def state(self) -> State:
        """What the files say; a result that is cut or does not validate is no result."""
        if not self.path.is_dir():
            return State.PLANNED
        if self.read_result() is not None:
            return State.FINISHED
        holder = read_holder(self.path)
        if holder is not None and holder.seems_alive():
            return State.RUNNING
        if self.stopped.exists():
            return State.STOPPED
        if self.failure.exists():
            return State.FAILED
        begun = holder is not None or self.metrics.exists() or self.result.exists()
        return State.STALE if begun else State.PLANNED


@dataclass(frozen=True)
class Ledger:
    """All runs under one output folder."""

    out: Path

    def folder(self, run_id: str) -> RunFolder:
        return RunFolder(self.out / "runs" / run_id)

    def folders(self) -> list[RunFolder]:
        """Every run folder there is, by name."""
        runs = self.out / "runs"
        if not runs.is_dir():
            return []
        return [RunFolder(path) for path in sorted(runs.iterdir()) if path.is_dir()]

    def states(self, specs: Sequence[RunSpec]) -> dict[str, State]:
        return {spec.run_id: self.folder(spec.run_id).state() for spec in specs}

    def enter(self, specs: Sequence[RunSpec]) -> None:
        """Write each run's spec.json; OutputUnusable if the folder cannot be written."""
        for spec in specs:
            folder = self.folder(spec.run_id)
            if not folder.spec.exists():
                data = {"run_id": spec.run_id, **spec.model_dump(mode="json")}
                write_text(folder.spec, json.dumps(data, indent=1))

    def spec(self, run_id: str) -> RunSpec:
        """The spec a run was entered with."""
        data = json.loads(self.folder(run_id).spec.read_text())
        del data["run_id"]
        return RunSpec.model_validate(data)

    def forget(self, run_id: str) -> None:
        """Delete what an earlier attempt left, so that the run starts from the beginning."""
        folder = self.folder(run_id)
        holder = read_holder(folder.path)
        if holder is not None and holder.seems_alive():
            raise OutputUnusable(
                f"{run_id} is running on {holder.host} (pid {holder.pid}); stop it before a rerun"
            )
        try:
            shutil.rmtree(folder.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unusable(folder.path, error) from error
