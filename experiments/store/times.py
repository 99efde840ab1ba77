"""Times in files that anything may stand in."""

from __future__ import annotations

from datetime import UTC, datetime


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
