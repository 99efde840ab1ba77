"""The columns of a protocol's table: what is measured, over what the paper averages, chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from protocols.datasets import DATASETS
from protocols.protocol import Protocol, Suite
from results.reading.collect import Collected
from results.records import Measurement, Result
from results.statistics.mean_std import Axis, chance_level, harmonic_mean

HARMONIC = "HM"
#: The suites whose harmonic mean is shown.
HALVES = ("base", "novel")
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


def columns(protocol: Protocol, *collected: Collected) -> tuple[Column, ...]:
    """The columns of `protocol`'s table in the paper's order, then those of users' own data sets
    that the runs in `collected` were trained or tested on."""
    axis: Sequence[int | None] = protocol.axis_values or (None,)
    found: list[Column] = []
    for trained_on in protocol.datasets:
        tests = [_published_test(protocol.point_suite(one, trained_on)) for one in protocol.suites]
        found += _columns(protocol, trained_on, tests, axis)
    results = [result for one in collected for _, result in one.finished]
    keys = [result.key for result in results]
    keys += [run.key for one in collected for run in one.unfinished if run.key is not None]
    for trained_on in dict.fromkeys(key.dataset for key in keys if key.dataset not in DATASETS):
        points = {key.shots if protocol.axis == "shots" else key.base_split
                  for key in keys if key.dataset == trained_on}  # fmt: skip
        axis = sorted(points, key=lambda value: value or 0)
        measured = [result for result in results if result.key.dataset == trained_on]
        found += _columns(protocol, trained_on, _own_tests(measured), axis)
    return tuple(found)


class _Test(NamedTuple):
    """A suite as a table shows it. `title`: of the data set it is on."""

    suite: str
    dataset: str
    title: str
    splits: tuple[str, ...]
    classes: int
    views: str


def _published_test(suite: Suite) -> _Test:
    data = DATASETS[suite.dataset]
    classes = data.labels(data.split(suite.splits[0]).labels).classes
    return _Test(suite.name, data.name, data.title, suite.splits, classes, suite.views.label)


def _own_tests(results: Sequence[Result]) -> list[_Test]:
    """What of own data the newest of `results`, all of one data set, was tested on."""
    newest = max(results, key=lambda one: one.provenance.finished, default=None)
    if newest is None:
        return []
    suites: dict[str, list[Measurement]] = {}
    for one in newest.measurements:
        if one.dataset not in DATASETS:
            suites.setdefault(one.suite, []).append(one)
    titles = newest.provenance.titles
    return [
        _Test(
            suite, own[0].dataset, titles.get(own[0].dataset, own[0].dataset),
            tuple(dict.fromkeys(one.split for one in own)), own[0].classes, own[0].views,
        )
        for suite, own in suites.items()
    ]  # fmt: skip


def _columns(
    protocol: Protocol, trained_on: str, tests: Sequence[_Test], values: Sequence[int | None]
) -> Iterator[Column]:
    """The columns of one training data set; `values`: the shots or base splits of its runs."""
    of_suite: dict[str, Column] = {}
    for test in tests:
        units = test.splits
        if protocol.statistic.axis == "base_splits":
            units = tuple(f"s{value}" for value in values)
        for metric in protocol.statistic.metrics:
            for shots in values if protocol.axis == "shots" else (None,):
                part = metric if shots is None else f"K={shots}"
                column = Column(
                    test.dataset, test.title, test.suite if test.suite in HALVES else part,
                    metric, test.suite, test.views, trained_on, units,
                    chance_level(test.classes, 5 if metric == "top5" else 1), test.splits, shots,
                )  # fmt: skip
                of_suite[test.suite] = column
                yield column
    if set(of_suite) == set(HALVES):
        base, novel = (of_suite[half] for half in HALVES)
        chance = float(harmonic_mean(base.chance, novel.chance))
        yield replace(base, part=HARMONIC, suite=HARMONIC, chance=chance)


def has_llm_names(column: Column) -> bool:
    """Whether LLM-rephrased class names were published; else the LLM row repeats the base row."""
    data = DATASETS.get(column.dataset)
    return data is not None and any(labels.llm is not None for labels in data.label_sets)


def statistic_title(protocol: Protocol, column: Column) -> str:
    """The paper's statistic as a column heading: `over 3 splits`, `single run`."""
    axis = AXES[protocol.statistic.axis]
    number = len(column.units)
    return axis if axis == "single run" else f"over {number} {axis if number > 1 else axis[:-1]}"
