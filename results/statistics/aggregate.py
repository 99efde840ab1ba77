"""The two statistics of every table: the paper's, over its own axis, and the one over seeds.

The paper's is of one model (mean and std over the splits, or over the base splits); with several
seeds its mean and its std are each averaged over the seeds. The one over seeds takes each model's
mean, and gives the mean and the sample std of those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocols.protocol import Protocol
from results.reading.collect import Collected, Unfinished
from results.records import RunKey
from results.statistics.columns import AXES, HARMONIC, Column, columns
from results.statistics.mean_std import SEEDS_DDOF, Estimate, estimate, harmonic_mean

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, order=True)
class Method:
    """What a row of the table stands for: a model under a variant and settings."""

    model: str
    variant: str
    overrides: str = ""
    origin: str = "trained"
    protocol_version: int = 1


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


METHOD_COLUMNS = ("model", "variant", "overrides", "origin", "protocol_version")
#: seed -> unit -> percent
_Values = dict[int, dict[str, float]]


def aggregate(
    collected: Collected,
    protocol: Protocol,
    *,
    partial: bool = False,
    seeds: Sequence[int] | None = None,
) -> dict[CellKey, Aggregated]:
    """Every cell for which there is at least one number or one run of the grid.

    `seeds` are those the grid should have; None takes the seeds of the runs there are, finished
    or not, method by method. An incomplete cell has no average unless `partial`.
    """
    expected = Expected(collected, protocol, seeds)
    by_key = {column.key: column for column in columns(protocol, collected.table)}
    cells: dict[CellKey, Aggregated] = {}
    values = _values(collected.table, protocol)
    for key in dict.fromkeys((*values, *expected.cells(values))):
        column = by_key[key.column]
        missing = expected.missing(key.method, column, values.get(key, {}))
        cells[key] = _cell(values.get(key, {}), column, protocol, missing, partial)
    for column in by_key.values():
        if column.part == HARMONIC:
            cells |= _harmonic_cells(cells, column, partial)
    return cells


def _cell(
    values: _Values, column: Column, protocol: Protocol, missing: tuple[str, ...], partial: bool
) -> Aggregated:
    axis, ddof = AXES[protocol.statistic.axis], protocol.statistic.ddof
    # A seed counts when its model has every unit, or with `partial` any of them.
    known = {
        seed: [units[u] for u in column.units if u in units]
        for seed, units in sorted(values.items())
    }
    least = 1 if partial else len(column.units)
    per_seed = {
        seed: estimate(numbers, axis=axis, ddof=ddof)
        for seed, numbers in known.items()
        if len(numbers) >= least
    }
    if not per_seed or (missing and not partial):
        return Aggregated(None, None, per_seed, missing)
    return Aggregated(
        _mean_of(per_seed.values()), _over_seeds(per_seed.values()), per_seed, missing,
        partial=bool(missing),
    )  # fmt: skip


def _mean_of(models: Iterable[Estimate]) -> Estimate:
    """The paper's statistic of several models: means averaged, stds averaged where defined."""
    models = list(models)
    stds = [model.std for model in models if model.std is not None]
    return Estimate(
        mean=sum(model.mean for model in models) / len(models),
        std=sum(stds) / len(stds) if stds else None,
        n=min(model.n for model in models),
        ddof=models[0].ddof,
        axis=models[0].axis,
    )


def _over_seeds(models: Iterable[Estimate]) -> Estimate:
    return estimate([model.mean for model in models], axis="seeds", ddof=SEEDS_DDOF)


def _values(table: pd.DataFrame, protocol: Protocol) -> dict[CellKey, _Values]:
    """The table's numbers by cell, seed and unit of the paper's statistic."""
    methods, number_of = _methods(table)
    values: dict[CellKey, _Values] = defaultdict(dict)
    for column, numbers in select(table, protocol):
        cells: dict[tuple[int, str, str], _Values] = {}
        names = ("run_id", "weights", "checkpoint", "seed", "unit", "value")
        rows = zip(*(numbers[name].tolist() for name in names), strict=True)
        for run_id, weights, checkpoint, seed, unit, value in rows:
            place = number_of[run_id], weights, checkpoint
            if place not in cells:
                key = CellKey(methods[place[0]], weights, checkpoint, column.key)
                cells[place] = values[key]
            cells[place].setdefault(seed, {})[unit] = value
    return values


def _methods(table: pd.DataFrame) -> tuple[list[Method], dict[str, int]]:
    """The methods there are, and run_id -> its method's place among them.

    Places instead of methods: hashing a method for every number would take most of the time.
    """
    runs = table.drop_duplicates("run_id")
    places: dict[Method, int] = {}
    of_run: dict[str, int] = {}
    rows = zip(*(runs[name].tolist() for name in ("run_id", *METHOD_COLUMNS)), strict=True)
    for run_id, *fields in rows:
        of_run[run_id] = places.setdefault(Method(*fields), len(places))
    return list(places), of_run


def select(table: pd.DataFrame, protocol: Protocol) -> Iterator[tuple[Column, pd.DataFrame]]:
    """Each column's numbers, the averaged `unit` (split or base split) named beside them.

    Other suites, views and metrics than the published table's stay in the long table only.
    """
    for column in columns(protocol, table):
        if column.part == HARMONIC:
            continue
        wanted = table["suite"] == column.suite
        for name in ("dataset", "metric", "views", "trained_on"):
            wanted &= table[name] == getattr(column, name)
        if column.shots is not None:
            wanted &= (table["shots"] == column.shots).fillna(False)
        numbers = table[wanted]
        if protocol.statistic.axis == "base_splits":
            yield column, numbers.assign(unit="s" + numbers["base_split"].astype("string"))
        else:
            yield column, numbers.assign(unit=numbers["split"])


def _harmonic_cells(
    cells: Mapping[CellKey, Aggregated], column: Column, partial: bool
) -> dict[CellKey, Aggregated]:
    found = {}
    for key, base in cells.items():
        if key.column != (column.dataset, "base"):
            continue
        novel = cells.get(
            CellKey(key.method, key.weights, key.checkpoint, (column.dataset, "novel"))
        )
        if novel is not None:
            mine = CellKey(key.method, key.weights, key.checkpoint, column.key)
            found[mine] = _harmonic(base, novel, partial)
    return found


def _harmonic(base: Aggregated, novel: Aggregated, partial: bool) -> Aggregated:
    """Harmonic mean of the means; over seeds: of each seed's own harmonic mean."""
    per_seed = {
        seed: _harmonic_of(one, novel.per_seed[seed])
        for seed, one in base.per_seed.items()
        if seed in novel.per_seed
    }
    missing = tuple(dict.fromkeys((*base.missing, *novel.missing)))
    if base.paper is None or novel.paper is None or not per_seed or (missing and not partial):
        return Aggregated(None, None, per_seed, missing)
    return Aggregated(
        _harmonic_of(base.paper, novel.paper), _over_seeds(per_seed.values()), per_seed, missing,
        partial=bool(missing),
    )  # fmt: skip


def _harmonic_of(base: Estimate, novel: Estimate) -> Estimate:
    mean = harmonic_mean(base.mean, novel.mean)
    return Estimate(mean, None, min(base.n, novel.n), base.ddof, base.axis)


_Point = tuple[str, int | None, int | None, int]


class Expected:
    """Which runs the grid expects of each method, and why one of them gave no numbers."""

    def __init__(
        self, collected: Collected, protocol: Protocol, seeds: Sequence[int] | None
    ) -> None:
        self.protocol = protocol
        self.asked = tuple(seeds) if seeds is not None else None
        self._columns = [c for c in columns(protocol, collected.table) if c.part != HARMONIC]
        self._unfinished: dict[tuple[Method, _Point], Unfinished] = {}
        self._finished: set[tuple[Method, _Point]] = set(_finished(collected.table))
        for one in collected.unfinished:
            if one.key is not None:
                self._unfinished[method_of(one.key), _point(one.key)] = one
        self._seeds: dict[tuple[Method, str], set[int]] = defaultdict(set)
        self._shots: dict[tuple[Method, str], set[int | None]] = defaultdict(set)
        self._all_seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
        for method, (trained_on, shots, _, seed) in (*self._unfinished, *self._finished):
            self._seeds[method, trained_on].add(seed)
            self._shots[method, trained_on].add(shots)
            self._all_seeds[method.overrides, trained_on].add(seed)

    def seeds(self, method: Method, trained_on: str) -> tuple[int, ...]:
        """The seeds a cell needs."""
        if self.asked is not None:
            return self.asked
        return tuple(sorted(self._seeds[method, trained_on]))

    def other_seeds(self, method: Method, trained_on: str) -> tuple[int, ...]:
        """Seeds that methods under the same settings have on the same data and this one has not."""
        others = self._all_seeds[method.overrides, trained_on]
        return tuple(sorted(others - self._seeds[method, trained_on]))

    def cells(self, values: Mapping[CellKey, _Values]) -> list[CellKey]:
        """Cells of the grid, also those whose runs gave no number yet."""
        kinds: dict[Method, set[tuple[str, str]]] = defaultdict(set)
        for key in values:
            kinds[key.method].add((key.weights, key.checkpoint))
        both = ("raw", "ensembled") if self.protocol.ensemble_weight is not None else ("raw",)
        planned = {(weights, checkpoint) for weights in both for checkpoint in ("best", "last")}
        found = []
        for method in {method for method, _ in self._seeds}:
            for weights, checkpoint in sorted(kinds.get(method, planned)):
                for column in self._columns:
                    if self.covers(method, column):
                        found.append(CellKey(method, weights, checkpoint, column.key))
        return found

    def covers(self, method: Method, column: Column) -> bool:
        """Whether the grid has any run for this cell."""
        key = method, column.trained_on
        return key in self._shots and column.shots in self._shots[key]

    def missing(self, method: Method, column: Column, values: _Values) -> tuple[str, ...]:
        """What the cell lacks and why, one text a run or split."""
        found: list[str] = []
        for seed in self.seeds(method, column.trained_on):
            for unit in column.units:
                if unit not in values.get(seed, {}):
                    found.append(self._why(method, column, seed, unit))
        return tuple(dict.fromkeys(found))

    def _why(self, method: Method, column: Column, seed: int, unit: str) -> str:
        over_runs = self.protocol.statistic.axis == "base_splits"
        base_split = int(unit[1:]) if over_runs else None
        point = (column.trained_on, column.shots, base_split, seed)
        place = f"seed {seed}" + (f", base split {base_split}" if over_runs else "")
        if column.shots is not None:
            place += f", {column.shots} shots"
        if (method, point) in self._unfinished:
            return f"{place}: {self._unfinished[method, point]}"
        if (method, point) in self._finished:
            return f"{place}: no number for split {unit} ({column.suite}, views {column.views})"
        return f"{place}: no such run"


def method_of(key: RunKey) -> Method:
    """The row a run belongs to."""
    return Method(
        key.model, key.variant, ", ".join(key.overrides), key.origin, key.protocol_version
    )


def _point(key: RunKey) -> _Point:
    return key.dataset, key.shots, key.base_split, key.seed


def _finished(table: pd.DataFrame) -> list[tuple[Method, _Point]]:
    import pandas as pd

    names = [*METHOD_COLUMNS, "trained_on", "shots", "base_split", "seed"]
    runs = table.drop_duplicates("run_id")
    found = []
    for row in zip(*(runs[name].tolist() for name in names), strict=True):
        shots, base_split = (None if pd.isna(value) else value for value in row[6:8])
        found.append((Method(*row[:5]), (row[5], shots, base_split, row[8])))
    return found
