"""The two statistics of every table: the paper's, over its own axis, and the one over seeds.

The paper's is of one model (mean and std over the splits, or over the base splits); with several
seeds its mean and its std are each averaged over the seeds. The one over seeds takes each model's
mean, and gives the mean and the sample std of those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from protocols.protocol import Protocol
from results.statistics.columns import AXES, HARMONIC, Column
from results.statistics.expected import ExpectedRuns
from results.statistics.mean_std import SEEDS_DDOF, Estimate, estimate, harmonic_mean
from results.statistics.runs import Method


@dataclass(frozen=True)
class CellKey:
    """A cell of the table: which method and weights, in which column."""

    method: Method
    weights: str
    checkpoint: str
    column: tuple[str, str]


@dataclass(frozen=True)
class Aggregated:
    """The numbers of one cell. `paper` and `seeds` are None where something is `missing`.

    `per_seed`: the paper's statistic of each seed's model. `missing`: what the grid expects and
    why it is not there; with `partial` the averages are over the rest.
    """

    paper: Estimate | None
    seeds: Estimate | None
    per_seed: Mapping[int, Estimate]
    missing: tuple[str, ...] = ()
    partial: bool = False


#: seed -> unit -> percent
_Values = dict[int, dict[str, float]]


def aggregate(expected: ExpectedRuns, *, partial: bool) -> dict[CellKey, Aggregated]:
    """Every cell for which there is at least one number or one run of the grid.

    An incomplete cell has no average unless `partial`.
    """
    values = _values(expected)
    columns = {column.key: column for column in expected.columns}
    cells: dict[CellKey, Aggregated] = {}
    for key in dict.fromkeys((*values, *_expected_cells(values, expected))):
        column, numbers = columns[key.column], values.get(key, {})
        missing = expected.missing(key.method, column, numbers)
        cells[key] = _cell(numbers, column, expected.protocol, missing, partial)
    for column in expected.columns:
        if column.part == HARMONIC:
            cells |= _harmonic_cells(cells, column, partial)
    return cells


def _values(expected: ExpectedRuns) -> dict[CellKey, _Values]:
    """The numbers of finished runs by cell, seed and unit of the paper's statistic.

    Those of other suites, views and metrics than the published table's are left out.
    """
    columns: dict[tuple[str, ...], list[Column]] = defaultdict(list)
    for one in expected.columns:
        columns[one.suite, one.dataset, one.metric, one.views, one.trained_on].append(one)
    values: dict[CellKey, _Values] = defaultdict(dict)
    for run in expected.finished:
        method, point = run.method, run.point
        for number in run.result.measurements:
            place = (number.suite, number.dataset, number.metric, number.views, point.trained_on)
            for column in columns.get(place, ()):
                if column.shots in (None, point.shots):
                    key = CellKey(method, number.weights, number.checkpoint, column.key)
                    unit = column.unit(number.split, point.base_split)
                    values[key].setdefault(point.seed, {})[unit] = number.value
    return values


def _expected_cells(values: Collection[CellKey], expected: ExpectedRuns) -> Iterator[CellKey]:
    """Cells of the grid, also those whose runs gave no number yet."""
    kinds: dict[Method, set[tuple[str, str]]] = defaultdict(set)
    for key in values:
        kinds[key.method].add((key.weights, key.checkpoint))
    both = ("raw", "ensembled") if expected.protocol.ensemble_weight is not None else ("raw",)
    planned = {(weights, checkpoint) for weights in both for checkpoint in ("best", "last")}
    for method in expected.methods:
        for weights, checkpoint in kinds.get(method, planned):
            for column in expected.columns:
                if expected.includes(method, column):
                    yield CellKey(method, weights, checkpoint, column.key)


def _cell(
    values: _Values, column: Column, protocol: Protocol, missing: tuple[str, ...], partial: bool
) -> Aggregated:
    axis, ddof = AXES[protocol.statistic.axis], protocol.statistic.ddof
    # A seed counts when its model has every unit, or with `partial` any of them.
    needed = 1 if partial else len(column.units)
    per_seed = {}
    for seed, by_unit in sorted(values.items()):
        numbers = [by_unit[unit] for unit in column.units if unit in by_unit]
        if len(numbers) >= needed:
            per_seed[seed] = estimate(numbers, axis=axis, ddof=ddof)
    paper = _mean_of(list(per_seed.values())) if per_seed else None
    return _aggregated(paper, per_seed, missing, partial)


def _mean_of(models: Sequence[Estimate]) -> Estimate:
    """The paper's statistic of several models: means averaged, stds averaged where defined."""
    stds = [model.std for model in models if model.std is not None]
    return replace(
        models[0],
        mean=sum(model.mean for model in models) / len(models),
        std=sum(stds) / len(stds) if stds else None,
        n=min(model.n for model in models),
    )


def _aggregated(
    paper: Estimate | None,
    per_seed: Mapping[int, Estimate],
    missing: tuple[str, ...],
    partial: bool,
) -> Aggregated:
    if paper is None or not per_seed or (missing and not partial):
        return Aggregated(None, None, per_seed, missing)
    means = [model.mean for model in per_seed.values()]
    seeds = estimate(means, axis="seeds", ddof=SEEDS_DDOF)
    return Aggregated(paper, seeds, per_seed, missing, partial=bool(missing))


def _harmonic_cells(
    cells: Mapping[CellKey, Aggregated], column: Column, partial: bool
) -> dict[CellKey, Aggregated]:
    found = {}
    for key, base in cells.items():
        novel = cells.get(replace(key, column=(column.dataset, "novel")))
        if key.column == (column.dataset, "base") and novel is not None:
            found[replace(key, column=column.key)] = _harmonic(base, novel, partial)
    return found


def _harmonic(base: Aggregated, novel: Aggregated, partial: bool) -> Aggregated:
    """Harmonic mean of the means; over seeds: of each seed's own harmonic mean."""
    per_seed = {
        seed: _harmonic_of(base.per_seed[seed], novel.per_seed[seed])
        for seed in base.per_seed
        if seed in novel.per_seed
    }
    paper = None
    if base.paper is not None and novel.paper is not None:
        paper = _harmonic_of(base.paper, novel.paper)
    missing = tuple(dict.fromkeys((*base.missing, *novel.missing)))
    return _aggregated(paper, per_seed, missing, partial)


def _harmonic_of(base: Estimate, novel: Estimate) -> Estimate:
    mean = float(harmonic_mean(base.mean, novel.mean))
    return Estimate(mean, None, min(base.n, novel.n), base.ddof, base.axis)
