"""A finished run as statistics and reports see it: its method, its grid point, its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from results.reading.location import location
from results.reading.long_table import RUN_COLUMNS
from results.reading.predictions import Predictions, read_predictions
from results.reading.run_folder import RunFolder
from results.records import RunKey
from results.statistics.methods import Method

if TYPE_CHECKING:
    import pandas as pd


class Point(NamedTuple):
    """A point of the protocol's grid, for one method."""

    trained_on: str
    shots: int | None
    base_split: int | None
    seed: int

    @classmethod
    def of(cls, key: RunKey) -> Point:
        """The grid point of a run."""
        return cls(key.dataset, key.shots, key.base_split, key.seed)


@dataclass(frozen=True)
class FinishedRun:
    """A run in the long table. `details`: all that the table says of it, by column."""

    run_id: str
    method: Method
    point: Point
    details: Mapping[str, Any]

    @property
    def folder(self) -> RunFolder:
        return RunFolder(location(self.details["out"]) / "runs" / self.run_id)

    def scores(
        self, suite: str, split: str, *, weights: str, checkpoint: str, complaints: list[str]
    ) -> Predictions | None:
        """The kept scores of one split; None if there are none, or none that can be read.

        A file that cannot be read is named in `complaints`.
        """
        try:
            return read_predictions(
                self.folder, suite, split, weights=weights, checkpoint=checkpoint
            )
        except ValueError as error:
            complaints.append(str(error))
            return None


def finished_runs(table: pd.DataFrame) -> list[FinishedRun]:
    """The runs of the long table, in its order."""
    runs = table.drop_duplicates("run_id")[list(RUN_COLUMNS)].astype(object)
    found = []
    for row in runs.where(runs.notna(), None).to_dict("records"):
        details = {str(name): value for name, value in row.items()}
        key = ("model", "variant", "overrides", "origin", "protocol_version")
        method = Method(*(details[name] for name in key))
        point = Point(*(details[name] for name in Point._fields))
        found.append(FinishedRun(details["run_id"], method, point, details))
    return found
