"""The columns of a protocol's table: what is measured, over what the paper averages, chance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from protocols.datasets import DATASETS
from protocols.protocol import Protocol, Suite
from results.statistics.mean_std import Axis, chance_level, harmonic_mean

HARMONIC = "HM"
AXES: dict[str, Axis] = {
    "splits": "splits",
    "base_splits": "base splits",
    "none": "single run",
}


@dataclass(frozen=True)
class Column:
    """One column of a published table, identified by (`dataset`, `part`).

    `part`: a metric ("top1"), shots ("K=2"), half of the classes ("base", "novel") or "HM".
    `units`: what the paper's statistic averages over: test splits of one model, or base splits
    ("s1"), a model each. `splits`: the suite's test splits. `chance` in percent.
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
    splits: tuple[str, ...]
    shots: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.dataset, self.part

    @property
    def part_title(self) -> str:
        """`part` as it is printed."""
        return self.part.replace("top", "top-")

    @property
    def over_base_splits(self) -> bool:
        """Whether a unit is a base split, with a model of its own."""
        return self.units != self.splits

    def unit(self, split: str, base_split: int | None) -> str:
        """The unit of a number of the test split `split`, by a model trained on `base_split`."""
        return f"s{base_split}" if self.over_base_splits else split

    def base_split(self, unit: str) -> int | None:
        """The base split that `unit` stands for; None where it is a test split."""
        return int(unit[1:]) if self.over_base_splits else None

    def test_split(self, unit: str) -> str:
        """The test split that a unit's number comes from; models of base splits share one."""
        return self.splits[0] if self.over_base_splits else unit


def columns(protocol: Protocol, table: pd.DataFrame) -> tuple[Column, ...]:
    """The columns of `protocol`'s table in the paper's order, then those of users' own data sets
    in the long `table` of measured numbers."""
    found: list[Column] = []
    own = _own_classes(table)
    for trained_on in (*protocol.datasets, *dict.fromkeys(dataset for dataset, _ in own)):
        suites = [protocol.point_suite(suite, trained_on) for suite in protocol.suites]
        for suite in suites:
            found += _suite_columns(protocol, trained_on, suite, own)
        if {suite.name for suite in suites} == {"base", "novel"}:
            base, novel = found[-2:]
            chance = float(harmonic_mean(base.chance, novel.chance))
            found.append(replace(base, part=HARMONIC, suite=HARMONIC, chance=chance))
    return tuple(found)


def _own_classes(table: pd.DataFrame) -> dict[tuple[str, str], int]:
    """(data set, split) -> classes, of users' own data sets, as their runs measured them."""
    own = table[~table["dataset"].isin(list(DATASETS))].drop_duplicates(["dataset", "split"])
    classes: dict[Any, int] = own.set_index(["dataset", "split"])["classes"].to_dict()
    return classes


def _suite_columns(
    protocol: Protocol, trained_on: str, suite: Suite, own: dict[tuple[str, str], int]
) -> list[Column]:
    data = DATASETS.get(suite.dataset)
    if data is None:
        title, classes = suite.dataset, own[suite.dataset, suite.splits[0]]
    else:
        title, classes = data.title, data.labels(data.split(suite.splits[0]).labels).classes
    units = suite.splits
    if protocol.statistic.axis == "base_splits":
        units = tuple(f"s{value}" for value in protocol.axis_values)
    found = []
    for metric in protocol.statistic.metrics:
        for shots in protocol.axis_values if protocol.axis == "shots" else (None,):
            part = metric if shots is None else f"K={shots}"
            column = Column(
                suite.dataset, title, suite.name if suite.name in ("base", "novel") else part,
                metric, suite.name, suite.views.label, trained_on, units,
                chance_level(classes, 5 if metric == "top5" else 1), suite.splits, shots,
            )  # fmt: skip
            found.append(column)
    return found


def has_llm_names(column: Column) -> bool:
    """Whether LLM-rephrased class names exist; without them the LLM row repeats the base row."""
    data = DATASETS.get(column.dataset)
    return data is not None and any(labels.llm is not None for labels in data.label_sets)


def statistic_title(protocol: Protocol, column: Column) -> str:
    """The paper's statistic as a column heading: `over 3 splits`, `single run`."""
    axis = AXES[protocol.statistic.axis]
    return axis if axis == "single run" else f"over {len(column.units)} {axis}"
