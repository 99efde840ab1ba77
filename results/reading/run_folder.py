"""A run folder: where its files are, and which state the run is in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from results.errors import StorageError, UserError
from results.reading.holder import read_holder
from results.reading.location import (
    RECORD_BYTES,
    Location,
    escaped,
    folder_names,
    is_local,
    names,
    read_bytes,
)  # fmt: skip
from results.records import SCHEMA_VERSION, Failure, Result


class State(StrEnum):
    """State of a run, as its folder says."""

    PLANNED = "planned"
    RUNNING = "running"
    STALE = "stale"
    PAUSED = "paused"
    FAILED = "failed"
    STOPPED = "stopped"
    FINISHED = "finished"


#: States in which nothing is left to do: the run was stopped by a search, or has its result.
ENDED = (State.STOPPED, State.FINISHED)
#: A control character in JSON, but for tabs and line ends.
_CONTROL = re.compile(rb"\\(?:u00(?:[01][\da-fA-F]|7[fF])|[bfr])")
#: Characters a name of a row has at most.
NAME_LENGTH = 60
#: How the names of files with best weights begin; the epoch follows.
BEST = "best-"


class _File:
    """A property of a run folder: the location of the file with this name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, _: type[RunFolder]) -> Location:
        return folder.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The files of one run under `<out>/runs/<run_id>/`."""

    path: Location

    @property
    def run_id(self) -> str:
        return self.path.name

    def name_of(self, file: Location) -> str:
        """The name of one of its files in messages: relative to the output folder."""
        return f"runs/{self.run_id}/{file.name}"

    spec = _File("spec.json")
    metrics = _File("metrics.jsonl")
    log = _File("run.log")
    result = _File("result.json")
    failure = _File("failure.json")
    stopped = _File("stopped.json")
    #: Written when the run saved a checkpoint and ended on request.
    paused = _File("paused.json")
    #: An empty file that asks the run to save a checkpoint and end.
    pause_request = _File("pause")
    last = _File("checkpoints/last.pt")
    #: The name the user gave its row; no part of what the run is.
    title = _File("name.txt")

    def best_of(self, epoch: int) -> Location:
        """The weights after `epoch`, kept while they are the best."""
        return self.path / "checkpoints" / f"{BEST}{epoch:04d}.safetensors"

    @property
    def best(self) -> Location:
        """The selected weights of a finished run; ValueError if it is not finished, or was not
        trained at all."""
        result = self.read_result()
        if result is None or result.selection.best_epoch == 0:
            raise ValueError(
                f"{self.run_id} has no selected weights: it has not trained to its end"
            )
        return self.best_of(result.selection.best_epoch)

    def predictions(self, suite: str, split: str) -> Location:
        return self.path / "predictions" / suite / f"{split}.parquet"

    def read_name(self) -> str | None:
        """The name that the user gave the run's row, if any. StorageError if a store is out of
        reach; a local file that cannot be read names nothing."""
        try:
            data = read_bytes(self.title, RECORD_BYTES) or b""
        except StorageError:
            if not is_local(self.path):
                raise
            return None
        return escaped(data.decode(errors="replace").strip())[:NAME_LENGTH] or None

    def read_result(self) -> Result | None:
        """The result if it exists and is valid, else None: the run is not finished.

        UserError if a newer version wrote it: such a result must not be overwritten.
        """
        data = read_bytes(self.result, RECORD_BYTES)
        try:
            return None if data is None else parse_result(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            version = first["input"] if first["loc"] == ("schema_version",) else None
            if not isinstance(version, int) or version < SCHEMA_VERSION:
                return None
            raise UserError(
                f"{self.result} has schema version {version}, and this version of tcclip knows "
                f"{SCHEMA_VERSION}: update tcclip, or choose another folder with --out"
            ) from error

    def read_summary(self) -> Result | None:
        """The result without its hundreds of measurements."""
        result = self.read_result()
        return None if result is None else result.model_copy(update={"measurements": ()})

    def read_failure(self) -> Failure | None:
        """Why the last attempt failed, if it did and the record is valid."""
        data = read_bytes(self.failure, RECORD_BYTES)
        try:
            return None if data is None else Failure.model_validate_json(data)
        except ValidationError:
            return None

    def state(self) -> State:
        """The state that the files say. A result that is cut or invalid counts as missing."""
        if self.read_result() is not None:
            return State.FINISHED
        return self.state_without_result()

    def state_without_result(self) -> State:
        """The state of a run whose result is missing or invalid."""
        present = names(self.path)
        holder = read_holder(self.path, present)
        if holder is not None and holder.seems_alive():
            return State.RUNNING
        if self.stopped.name in present:
            return State.STOPPED
        if self.paused.name in present:
            return State.PAUSED
        if self.failure.name in present:
            failure = self.read_failure()
            return State.STALE if failure is not None and failure.went_on else State.FAILED
        begun = holder is not None or {self.metrics.name, self.result.name} & set(present)
        return State.STALE if begun else State.PLANNED


def parse_result(data: bytes) -> Result:
    """The result in a result.json, types taken strictly. ValidationError if it is none."""
    return Result.model_validate_json(without_control(data), strict=True)


def without_control(data: bytes) -> bytes:
    """JSON in which control characters, which would steer a terminal, are shown as escapes."""

    def shown(escape: re.Match[bytes]) -> bytes:
        return b"\\" + escape[0] if _CONTROL.fullmatch(escape[0]) else escape[0]

    return re.sub(rb"\\(?:u\w{4}|.)", shown, data) if _CONTROL.search(data) else data


def run_folders(out: Location) -> list[RunFolder]:
    """Every run folder under `out`, by name; FileNotFoundError if there is no output folder."""
    found = [RunFolder(out / "runs" / name) for name in folder_names(out / "runs")]
    if not found and not names(out) and not (isinstance(out, Path) and out.is_dir()):
        raise FileNotFoundError(f"no such output folder: {out}")
    return found
