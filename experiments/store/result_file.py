"""What planning and status ask of a finished run, without keeping its whole result in mind.

Finished means that result.json is there and validates, as a whole. A process that has seen a file
validate does not read it again while its stamp (size, time of change, inode or tag) is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from experiments.errors import OutputUnusable, UserError
from experiments.store.files import Location, Stamp, read_bytes, stamp
from results.records import SCHEMA_VERSION, Result, RunKey, newer


@dataclass(frozen=True)
class Finished:
    """A valid result in short. Percent for accuracy; None for what older results do not tell."""

    key: RunKey
    epoch: int
    top1: float | None
    device: str
    workers: int
    gpu_hours: float
    #: ISO 8601, with its zone.
    time: str
    host: str | None
    attempts: int | None
    clips_per_second: float | None


#: By path: what was last read there, None for what did not validate.
Seen = dict[str, tuple[Stamp, Finished | None]]
seen: Seen = {}


def finished(path: Location) -> Finished | None:
    """The result at `path` in short; None if there is none, or none that validates."""
    name, now = str(path), stamp(path)
    if now is None:
        return None
    known = seen.get(name)
    if known is None or known[0] != now:
        known = seen[name] = now, _read(path)
    return known[1]


def readable(path: Location) -> Finished | None:
    """As `finished`, but None too for a file that the disk or its rights keep from being read: who
    asks for that run itself is told."""
    try:
        return finished(path)
    except OutputUnusable:
        return None


def _read(path: Location) -> Finished | None:
    result = read_result(path)
    return None if result is None else _short(result)


def read_result(path: Location) -> Result | None:
    """The result at `path` if it is there and validates, else None: the run is not finished.

    UserError for one that a newer version wrote: not to be computed again over it.
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


def _short(result: Result) -> Finished:
    selection, provenance = result.selection, result.provenance
    return Finished(
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
