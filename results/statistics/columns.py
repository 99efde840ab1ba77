"""The columns of a protocol's table: what is measured, over what the paper averages, chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocols.datasets import DATASETS
from protocols.protocol import Protocol, Suite
from results.statistics.mean_std import Axis, chance_level, harmonic_mean

if TYPE_CHECKING:
    import pandas as pd

HARMONIC = "HM"
PART_TITLES = {"top1": "top-1", "top5": "top-5"}
AXES: dict[str, Axis] = {
    "splits": "splits",
    "base_splits": "base splits",
    "none": "single run",
}


@dataclass(frozen=True)
class Column:
    """One column of a published table, identified by (`dataset`, `part`).

    `part`: a metric ("top1"), shots ("K=2"), half of the classes ("base", "novel") or "HM".
    `units`: what the paper's statistic averages over, by name. `chance` in percent.
    """

    dataset: str
    title: str
    part: str
    metric: str
    suite: str
    views: str
    trained_on: str
    units: tuple[str, ...]
    chance: float
    shots: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.dataset, self.part

    @property
    def part_title(self) -> str:
        """`part` as it is printed; empty where the data set has one column only."""
        return PART_TITLES.get(self.part, self.part)


#: Class counts of users' own data sets, as their runs measured them: data set -> split -> classes.
OwnClasses = Mapping[str, Mapping[str, int]]


def columns(protocol: Protocol, table: pd.DataFrame | None = None) -> tuple[Column, ...]:
    """The columns of `protocol`'s table in the paper's order, then those of users' own data sets
    in the long `table` of measured numbers."""
    found: list[Column] = []
    own = {} if table is None else _own_classes(table)
    for trained_on in (*protocol.datasets, *own):
        suites = [protocol.point_suite(suite, trained_on) for suite in protocol.suites]
        halves = {suite.name for suite in suites} == {"base", "novel"}
        for suite in suites:
            for metric in protocol.statistic.metrics:
                found += _suite_columns(protocol, trained_on, suite, metric, halves, own)
        if halves:
            found.append(_harmonic(found[-2], found[-1]))
    return tuple(found)


def _own_classes(table: pd.DataFrame) -> OwnClasses:
    names = table["dataset"].astype("object")
    if names.isin(list(DATASETS)).all():
        return {}
    own = table[~names.isin(list(DATASETS))].drop_duplicates(["dataset", "split"])
    found: dict[str, dict[str, int]] = {}
    rows = zip(*(own[name].tolist() for name in ("dataset", "split", "classes")), strict=True)
    for name, split, classes in rows:
        found.setdefault(name, {})[split] = classes
    return found


def _title_and_classes(suite: Suite, own: OwnClasses) -> tuple[str, int]:
    data = DATASETS.get(suite.dataset)
    if data is None:
        return suite.dataset, own[suite.dataset][suite.splits[0]]
    return data.title, data.labels(data.split(suite.splits[0]).labels).classes


def _suite_columns(
    protocol: Protocol,
    trained_on: str,
    suite: Suite,
    metric: str,
    halves: bool,
    own: OwnClasses,
) -> list[Column]:
    title, classes = _title_and_classes(suite, own)
    over_runs = protocol.statistic.axis == "base_splits"
    units = tuple(f"s{value}" for value in protocol.axis_values) if over_runs else suite.splits
    shots = protocol.axis_values if protocol.axis == "shots" else (None,)
    return [
        Column(
            dataset=suite.dataset,
            title=title,
            part=suite.name if halves else metric if k is None else f"K={k}",
            metric=metric,
            suite=suite.name,
            views=suite.views.label,
            trained_on=trained_on,
            units=units,
            chance=chance_level(classes, 5 if metric == "top5" else 1),
            shots=k,
        )
        for k in shots
    ]


def _harmonic(base: Column, novel: Column) -> Column:
    return Column(
        dataset=base.dataset, title=base.title, part=HARMONIC, metric=base.metric, suite=HARMONIC,
        views=base.views, trained_on=base.trained_on, units=base.units,
        chance=harmonic_mean(base.chance, novel.chance),
    )  # fmt: skip


def has_llm_names(column: Column) -> bool:
    """Whether LLM-rephrased class names exist; without them the LLM row repeats the base row."""
    data = DATASETS.get(column.dataset)
    return data is not None and any(labels.llm is not None for labels in data.label_sets)


def statistic_words(protocol: Protocol, units: int) -> str:
    """The paper's statistic as a column heading: `over 3 splits`, `single run`."""
    axis = AXES[protocol.statistic.axis]
    return axis if axis == "single run" else f"over {units} {axis}"
