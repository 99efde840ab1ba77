"""Which runs are meant: by their points of the grid, the names of their rows, their ids.

A run's id says its point, so that files of runs that are not meant are not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from results.reading.run_folder import RunFolder

_RUN_ID = re.compile(
    r"(?P<protocol>\w+)-(?P<datasets>.+?)-(?P<models>\w+)-(?P<variants>\w+)"
    r"(-k(?P<shots>\d+))?(-b(?P<splits>\d+))?-s(?P<seeds>\d+)-[0-9a-f]{10}"
)
_NUMBERS = ("shots", "splits", "seeds")


@dataclass(frozen=True)
class RunFilter:
    """The runs with one of the values on every axis, by the options' names; None: any.

    `splits`: base splits. `name` and `run`: patterns of a row's name and of a run id.
    """

    datasets: Collection[str] | None = None
    models: Collection[str] | None = None
    variants: Collection[str] | None = None
    shots: Collection[int] | None = None
    splits: Collection[int] | None = None
    seeds: Collection[int] | None = None
    name: str | None = None
    run: str | None = None

    @property
    def options(self) -> list[str]:
        """The options that are given."""
        return [f"--{name}" for name, value in vars(self).items() if value is not None]

    def __call__(self, folder: RunFolder) -> bool:
        """Whether a run is meant. A folder whose name is no run id is chosen by --run alone.

        StorageError if a store is out of reach.
        """
        if self.run is not None and not fnmatchcase(folder.run_id, self.run):
            return False
        if not self.has_point_of(folder.run_id):
            return False
        return self.name is None or fnmatchcase(folder.read_name() or "", self.name)

    def has_point_of(self, run_id: str) -> bool:
        """Whether a run's point of the grid is meant."""
        asked = self._axes()
        point = point_of(run_id) if asked else {}
        return all(point.get(axis) in values for axis, values in asked.items())

    def unmatched(self, run_ids: Iterable[str]) -> Iterator[str]:
        """What is asked for that no run has, in words, with what there is."""
        run_ids = list(run_ids)
        if self.run is not None and not any(fnmatchcase(one, self.run) for one in run_ids):
            yield f"no run's id is --run {self.run}"
        points = [point for run_id in run_ids if (point := point_of(run_id))]
        for axis, values in self._axes().items():
            known: set[Any] = {point[axis] for point in points} - {None}
            unknown = [str(value) for value in values if value not in known]
            if points and unknown:
                there = ", ".join(map(str, sorted(known))) or "none"
                yield f"no run has --{axis} {','.join(unknown)}; there are: {there}"

    def _axes(self) -> dict[str, Collection[str | int]]:
        axes = {name: value for name, value in vars(self).items() if name not in ("name", "run")}
        return {name: values for name, values in axes.items() if values is not None}


def point_of(run_id: str) -> dict[str, str | int | None]:
    """Axis -> value, by the names of the options, and the protocol; empty if it is no run id."""
    found = _RUN_ID.fullmatch(run_id)
    if found is None:
        return {}
    return {
        name: int(text) if text is not None and name in _NUMBERS else text
        for name, text in found.groupdict().items()
    }


#: Every run.
EVERY_RUN = RunFilter()
