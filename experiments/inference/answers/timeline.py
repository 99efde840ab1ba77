"""A timeline in a few words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tcclip.predict.prediction import Window

#: What stands for the class of what was rejected.
NONE_OF_THESE = "none of these"


class Scene(NamedTuple):
    """Windows in a row with the same best class; `probability`: their mean."""

    start: float
    end: float
    name: str
    probability: float


def scenes(windows: Sequence[Window]) -> list[Scene]:
    """A timeline in a few lines. Of windows that overlap, each holds until the next begins."""
    named = [(NONE_OF_THESE if one.rejected else one.top[0].name, one) for one in windows]
    found: list[Scene] = []
    for name, group in groupby(named, key=lambda pair: pair[0]):
        own = [one for _, one in group]
        mean = sum(one.top[0].probability for one in own) / len(own)
        if found:
            found[-1] = found[-1]._replace(end=own[0].start)
        found.append(Scene(own[0].start, own[-1].end, name, mean))
    return found


def clock(seconds: float) -> str:
    """`75.5` -> `1:15.5`."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths / 10:04.1f}"
