"""What of a protocol's table is shown: its columns, which of our methods are rows of it, and which
published rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from protocols.protocol import Protocol
from results.published.numbers import PublishedNumber, published_rows
from results.reading.collect import Collected, Unfinished
from results.reading.run_filter import EVERY_RUN, RunFilter
from results.statistics.columns import HARMONIC, Column
from results.statistics.expected import ExpectedRuns

#: Which published rows: beside columns that somebody trained or asked for, all, none.
PublishedChoice = Literal["beside", "all", "none"]
#: Tries that a remark names.
_NAMED = 4
_AXES = {"shots": "shots", "splits": "base_split"}


@dataclass(frozen=True)
class Shown:
    """`runs`: of which runs; on data sets that were trained or tested on."""

    runs: RunFilter = EVERY_RUN
    published: PublishedChoice = "beside"

    def narrowed(self, protocol: Protocol) -> Protocol:
        """`protocol` with the asked values of its axis alone; ValueError if it has no such axis."""
        for option, axis in _AXES.items():
            asked = getattr(self.runs, option)
            if asked is None:
                continue
            if protocol.axis != axis:
                raise ValueError(f"{protocol.name} has no --{option}; leave it out")
            values = tuple(value for value in protocol.axis_values if value in asked)
            protocol = protocol.model_copy(update={"axis_values": values})
        return protocol

    def runs_of(self, protocol: Protocol) -> RunFilter:
        """The filter of runs: what is asked for may be tested on by runs trained elsewhere."""
        asked = self.runs.datasets
        if asked is None:
            return self.runs
        training = [
            one
            for one in protocol.datasets
            if any(protocol.point_suite(s, one).dataset in asked for s in protocol.suites)
        ]
        return replace(self.runs, datasets=[*asked, *training])

    def columns(self, expected: ExpectedRuns) -> tuple[Column, ...]:
        """The table's columns: of the data sets asked for, or that somebody trained for."""
        if self.runs.datasets is not None or self.published == "all":
            return self.asked(expected.columns)
        return tuple(column for column in expected.columns if _is_trained(column, expected))

    def asked(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        """Those of the data sets asked for; all if none is."""
        asked = self.runs.datasets
        return tuple(c for c in columns if asked is None or {c.dataset, c.trained_on} & set(asked))

    def published_rows(self, protocol: str) -> list[list[PublishedNumber]]:
        """The published rows of the models and variants asked for."""
        models, variants = self.runs.models, self.runs.variants
        return [
            numbers
            for numbers in published_rows(protocol)
            if self.published != "none"
            and (models is None or numbers[0].model in models)
            and (variants is None or numbers[0].variant in variants)
        ]

    def remarks(self, collected: Collected, expected: ExpectedRuns) -> list[str]:
        """What is counted below the table instead of being shown in it."""
        trained = [column for column in expected.columns if _is_trained(column, expected)]
        known = {name for one in trained for name in (one.dataset, one.trained_on)}
        unknown = [name for name in self.runs.datasets or () if name not in known]
        texts = [f"no run has --datasets {','.join(unknown)}"] if unknown else []
        texts += replace(self.runs, datasets=None).unmatched(collected.run_ids)
        if collected.left_out:
            options = ", ".join(self.runs.options)
            texts.append(f"Left out by {options}: {_runs(collected.left_out)}")
        tried = expected.given_up()
        if tried:
            titles = [
                f"{expected.titles_of_all.of(method)} ({_states(runs)})"
                for method, runs in tried.items()
            ]
            more = f"; and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
            texts.append(
                f"No rows, since nothing of them finished or goes on: {'; '.join(titles[:_NAMED])}"
                f"{more}; tcclip status --state failed,stopped says why"
            )
        superseded = [one for one in collected.problems if one.kind == "superseded"]
        if superseded:
            texts.append(
                f"Superseded and not counted: {_runs(len(superseded))} with other lists, class "
                "names or packs than newer ones of the same points"
            )
        return texts


#: Every run, and published rows beside what somebody trained.
USUAL = Shown()


def _is_trained(column: Column, expected: ExpectedRuns) -> bool:
    """Whether there is a run for it, finished or not; for an HM column: for both halves."""
    measured = replace(column, part="") if column.part == HARMONIC else column
    return any(expected.includes(method, measured) for method in expected.methods)


def _states(runs: Sequence[Unfinished]) -> str:
    return ", ".join(f"{n} {state}" for state, n in Counter(one.state for one in runs).items())


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
