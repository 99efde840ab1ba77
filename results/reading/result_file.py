"""Reading result.json: a run is finished when the file is there and valid as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from results.errors import UserError
from results.reading.location import Location, read_bytes
from results.records import SCHEMA_VERSION, Result, RunKey, newer


@dataclass(frozen=True)
class ResultSummary:
    """What planning and status show of a result, without its hundreds of measurements.

    `top1`: percent; `time`: ISO 8601, with its zone. None for what older results do not tell.
    """

    key: RunKey
    epoch: int
    top1: float | None
    device: str
    workers: int
    gpu_hours: float
    time: str
    host: str | None
    attempts: int | None
    clips_per_second: float | None

    @classmethod
    def of(cls, result: Result) -> ResultSummary:
        """The summary of `result`."""
        selection, provenance = result.selection, result.provenance
        return cls(
            key=result.key,
            epoch=selection.last_epoch,
            top1=selection.best_value,
            device=provenance.device,
            workers=provenance.world_size,
            gpu_hours=provenance.gpu_hours,
            time=provenance.finished,
            host=provenance.host,
            attempts=provenance.attempts,
            clips_per_second=provenance.clips_per_second,
        )


def read_result(path: Location) -> Result | None:
    """The result at `path` if it exists and is valid, else None: the run is not finished.

    UserError if a newer version wrote it: such a result must not be overwritten.
    """
    data = read_bytes(path)
    try:
        return None if data is None else Result.model_validate_json(data)
    except ValidationError as error:
        version = newer(data or b"")
        if version is None:
            return None
        raise UserError(
            f"{path} has schema version {version}, and this version of tcclip knows "
            f"{SCHEMA_VERSION}: update tcclip, or choose another folder with --out"
        ) from error


def read_summary(path: Location) -> ResultSummary | None:
    """As `read_result`, in short."""
    result = read_result(path)
    return None if result is None else ResultSummary.of(result)
