"""Which runs a complete table needs, and why one of them gave no number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from protocols.protocol import Protocol
from results.reading.collect import Collected, Unfinished
from results.reading.run_folder import State
from results.statistics.columns import HARMONIC, Column, columns
from results.statistics.runs import FinishedRun, Method, Point
from results.statistics.titles import Titles

#: States of a run that nothing goes on with.
_GIVEN_UP = (State.FAILED, State.STOPPED)


class ExpectedRuns:
    """The grid's runs, method by method: finished, unfinished or not there at all.

    `seeds` are those every method needs; None takes the seeds of the method's own runs, finished
    or not.
    """

    def __init__(
        self, collected: Collected, protocol: Protocol, seeds: Collection[int] | None = None
    ) -> None:
        self.protocol = protocol
        self.columns = columns(protocol, collected)
        self.finished = [FinishedRun(*one) for one in collected.finished]
        self._required_seeds = seeds
        #: Every run there is; None if it is finished.
        self._runs: dict[tuple[Method, Point], Unfinished | None] = {
            (run.method, run.point): None for run in self.finished
        }
        for one in collected.unfinished:
            if one.key is not None:
                self._runs[Method.of(one.key), Point.of(one.key)] = one
        names, rows = self._names(collected), self.methods - self.given_up().keys()
        #: Of the table's rows, and of all methods there are.
        self.titles, self.titles_of_all = Titles(rows, names), Titles(self.methods, names)
        self._seeds: dict[tuple[Method, str], set[int]] = defaultdict(set)
        self._shots: dict[tuple[Method, str], set[int | None]] = defaultdict(set)
        self._seeds_of_all: dict[tuple[str, str], set[int]] = defaultdict(set)
        for method, point in self._runs:
            self._seeds[method, point.trained_on].add(point.seed)
            self._shots[method, point.trained_on].add(point.shots)
            self._seeds_of_all[method.overrides, point.trained_on].add(point.seed)

    @property
    def methods(self) -> set[Method]:
        """The methods with any run, finished or not."""
        return {method for method, _ in self._runs}

    def given_up(self) -> dict[Method, list[Unfinished]]:
        """The methods all of whose runs failed or were stopped, with these."""
        runs: dict[Method, list[Unfinished | None]] = defaultdict(list)
        for (method, _), run in self._runs.items():
            runs[method].append(run)
        return {
            method: [run for run in own if run is not None]
            for method, own in runs.items()
            if all(run is not None and run.state in _GIVEN_UP for run in own)
        }

    def _names(self, collected: Collected) -> dict[Method, str]:
        """What methods were called, each by the most of its runs."""
        counts: dict[Method, Counter[str]] = defaultdict(Counter)
        keys = {result.run_id: result.key for _, result in collected.finished}
        keys |= {one.run_id: one.key for one in collected.unfinished if one.key is not None}
        for run_id, name in sorted(collected.names.items()):
            if run_id in keys:
                counts[Method.of(keys[run_id])][name] += 1
        return {method: n.most_common(1)[0][0] for method, n in counts.items()}

    def includes(self, method: Method, column: Column) -> bool:
        """Whether there is any run for this cell, finished or not; an HM cell has none."""
        shots = self._shots.get((method, column.trained_on), ())
        return column.part != HARMONIC and column.shots in shots

    def seeds_only_others_have(self, method: Method, trained_on: str) -> list[int]:
        """Seeds that other methods with these settings have on the same data.

        None of them where the report names the seeds it needs.
        """
        if self._required_seeds is not None:
            return []
        others = self._seeds_of_all[method.overrides, trained_on]
        return sorted(others - self._seeds[method, trained_on])

    def missing(
        self, method: Method, column: Column, values: Mapping[int, Collection[str]]
    ) -> tuple[str, ...]:
        """What a cell lacks and why, one text a run or split; `values`: seed -> units there are."""
        seeds = self._required_seeds
        if seeds is None:
            seeds = sorted(self._seeds[method, column.trained_on])
        texts = [
            self._reason(method, column, seed, unit)
            for seed in seeds
            for unit in column.units
            if unit not in values.get(seed, ())
        ]
        return tuple(dict.fromkeys(texts))

    def _reason(self, method: Method, column: Column, seed: int, unit: str) -> str:
        base_split = column.base_split(unit)
        place = f"seed {seed}"
        if base_split is not None:
            place += f", base split {base_split}"
        if column.shots is not None:
            place += f", {column.shots} shots"
        run = method, Point(column.trained_on, column.shots, base_split, seed)
        if run not in self._runs:
            return f"{place}: no such run"
        unfinished = self._runs[run]
        if unfinished is not None:
            return f"{place}: {unfinished}"
        return f"{place}: no number for split {unit} ({column.suite}, views {column.views})"
