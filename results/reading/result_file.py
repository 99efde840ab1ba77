"""Reading result.json: a run is finished when the file is there and valid as a whole."""

from __future__ import annotations

from pydantic import ValidationError

from results.errors import UserError
from results.reading.location import Location, read_bytes
from results.records import SCHEMA_VERSION, Result, newer


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


def read_summary(path: Location) -> Result | None:
    """As `read_result`, without its hundreds of measurements."""
    result = read_result(path)
    return None if result is None else result.model_copy(update={"measurements": ()})
