"""A report: the table of a protocol with everything one must know to quote it.

`report` is what `tcclip report` calls; `results.tables.formats` prints it and writes every format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import protocols
from protocols.protocol import Protocol
from results.published.numbers import PublishedNumber, matching_number
from results.reading.collect import Problem, Unfinished, collect
from results.report.footnotes import Footnotes
from results.report.shown import USUAL, Shown
from results.statistics.aggregate import Aggregated, CellKey, aggregate
from results.statistics.columns import Column, has_llm_names
from results.statistics.expected import ExpectedRuns
from results.statistics.runs import VARIANT_TITLES, FinishedRun, Method
from results.statistics.titles import Titles
from tcclip import methods

WeightChoice = Literal["both", "raw", "ensembled"]
CheckpointChoice = Literal["best", "last", "both"]
Mark = Literal["within", "above", "below"]

_WEIGHT_WORDS = {True: "ensembled", False: "raw", None: "not stated"}
#: Differences are compared with the std at this many decimals: binary fractions are not exact.
_DECIMALS = 9


@dataclass(frozen=True)
class Cell:
    """One column of a row: ours, the published number, numbers of the footnotes of each: 1 is the
    first of `Report.notes`.

    `ours` is None where the sweep's grid has nothing for this column.
    """

    ours: Aggregated | None = None
    published: PublishedNumber | None = None
    notes: tuple[int, ...] = ()
    published_notes: tuple[int, ...] = ()

    @property
    def difference(self) -> float | None:
        """Ours minus published, in percentage points; None where either is missing."""
        if self.ours is None or self.ours.paper is None or self.published is None:
            return None
        return self.ours.paper.mean - self.published.value

    @property
    def mark(self) -> Mark | None:
        """Where the difference lies relative to the published std; None if none was published."""
        difference = self.difference
        if difference is None or self.published is None or self.published.std is None:
            return None
        if round(abs(difference) - self.published.std, _DECIMALS) <= 0:
            return "within"
        return "above" if difference > 0 else "below"

    @property
    def noise(self) -> float | None:
        """How far from our mean another run of the same settings would be, by its seed alone, in
        95 % of cases: percentage points; None with a single seed, or nothing to compare with.

        A published number is one run, ours the mean of n: std of their difference s sqrt(1 + 1/n).
        """
        seeds = None if self.ours is None else self.ours.seeds
        if self.difference is None or seeds is None or seeds.std is None:
            return None
        from scipy.special import stdtrit

        return float(stdtrit(seeds.n - 1, 0.975)) * seeds.std * math.sqrt(1 + 1 / seeds.n)


@dataclass(frozen=True)
class Row:
    """A method under one weight set and checkpoint. `method` is None for published-only rows.

    `notes`: footnotes of the title, as those of a cell.
    """

    title: str
    weights: str
    checkpoint: str
    cells: tuple[Cell, ...]
    method: Method | None = None
    notes: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """The model's title as the papers have it, without variant."""
        if self.method is None:
            return self.title.split(" (")[0]
        return methods.shown(self.method.model).title


@dataclass(frozen=True)
class Report:
    """What is shown: rows and columns, footnotes, and what could not be read or is not done."""

    protocol: Protocol
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    #: What holds for all runs and has no footnote.
    general: tuple[str, ...]
    finished: tuple[FinishedRun, ...]
    unfinished: tuple[Unfinished, ...]
    problems: tuple[Problem, ...]
    partial: bool
    titles: Titles
    #: run_id -> address of its page, where there is one.
    links: Mapping[str, str] = field(default_factory=dict)
    #: Of a data set's listed videos: file and JPEG of those at hand. None: none are shown.
    thumbnails: Callable[[str, Sequence[str]], Mapping[str, tuple[Path, bytes]]] | None = None

    @property
    def methods(self) -> list[Method]:
        """Ours, in the order of their rows."""
        return list(dict.fromkeys(row.method for row in self.rows if row.method is not None))

    @property
    def unread(self) -> list[Problem]:
        """The files not used as they are, but for superseded runs, which are counted."""
        return [one for one in self.problems if one.kind != "superseded"]

    @property
    def awaited(self) -> list[Unfinished]:
        """The unfinished runs of its rows; all there are, if none of its rows is ours."""
        methods = self.methods
        return [
            one
            for one in self.unfinished
            if not methods or one.key is None or Method.of(one.key) in methods
        ]

    @property
    def complete(self) -> bool:
        """Whether there is a result, nothing was unreadable and no cell lacks a number."""
        cells = [cell.ours for row in self.rows for cell in row.cells if cell.ours is not None]
        return bool(cells) and not self.unread and not any(cell.missing for cell in cells)


def report(
    outs: Sequence[Path | str] | Path | str,
    protocol: str,
    *,
    demo: bool = False,
    partial: bool = False,
    weights: WeightChoice = "both",
    checkpoint: CheckpointChoice = "best",
    shown: Shown = USUAL,
    links: Mapping[str, str] | None = None,
    asked_for: Collection[str] = (),
) -> Report:
    """The report of `protocol` from the runs under `outs`.

    `shown`: of which runs, and which published rows; a complete row needs all seeds it names
    (default: the seeds of the runs there are). `partial` averages incomplete cells, marked.
    `asked_for`: as in `collect`. ValueError for an unknown protocol or an axis it has not,
    FileNotFoundError for a missing output folder.
    """
    whole = protocols.get(protocol, demo=demo)
    definition = shown.narrowed(whole)
    collected = collect(outs, protocol, demo, asked_for, shown.runs_of(whole))
    definition = definition.model_copy(update={"title": whole.title_on(collected.trained_on)})
    expected = ExpectedRuns(collected, definition, shown.runs.seeds)
    columns = shown.columns(expected)
    numbers = aggregate(expected, partial=partial)
    notes, given_up = Footnotes(expected), expected.given_up()
    table = _Table(columns, numbers, expected, notes, shown)
    rows = [
        table.row(method, weight, epoch)
        for method, weight, epoch in _order(numbers, expected.titles)
        if weights in ("both", weight) and checkpoint in ("both", epoch) and method not in given_up
    ]
    remarks = shown.remarks(collected, expected)
    if not rows and expected.finished and not given_up:
        remarks.append(
            f"Finished runs without {weights} weights of the {checkpoint} epoch: "
            f"{len(expected.finished)}; --weights and --checkpoint choose others"
        )
    elif not rows and (others := len(collect(outs, protocol, not demo).finished)):
        what, how = ("not of", "leave out --demo") if demo else ("of", "give --demo")
        remarks.append(f"Finished runs here that are {what} the demo: {others}; {how}")
    if not demo:
        beside = shown.published_rows(protocol)
        rows = _with_published_rows(rows, beside, columns, weights, notes)
    return Report(
        definition, columns, tuple(rows), notes.texts(),
        (*remarks, *notes.general), tuple(expected.finished),
        collected.unfinished, collected.problems, partial, expected.titles, links or {},
    )  # fmt: skip


def _order(numbers: Iterable[CellKey], titles: Titles) -> list[tuple[Method, str, str]]:
    """Rows in the paper's order of models and variants, plain settings and raw weights first."""

    def rank(row: tuple[Method, str, str]) -> tuple[object, ...]:
        method, weights, epoch = row
        plain = not method.overrides and method.origin == "trained"
        return (
            _position(method.model, methods.names()), method.model,
            _position(method.variant, list(VARIANT_TITLES)), method.variant,
            method.protocol_version, _natural("" if plain else titles.of(method)), method.overrides,
            method.origin,
            weights == "ensembled", epoch == "last",
        )  # fmt: skip

    return sorted({(k.method, k.weights, k.checkpoint) for k in numbers}, key=rank)


def _natural(title: str) -> list[tuple[int, str]]:
    """A key by which `idea 2` comes before `idea 10`."""
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", title)]


def _position(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


@dataclass(frozen=True)
class _Table:
    """What the rows of a table are made of."""

    columns: Sequence[Column]
    numbers: Mapping[CellKey, Aggregated]
    expected: ExpectedRuns
    notes: Footnotes
    shown: Shown

    def row(self, method: Method, weights: str, checkpoint: str) -> Row:
        """The row of one method under one weight set and checkpoint."""
        protocol, titles, cells = self.expected.protocol, self.expected.titles, []
        llm_runs = {key.column[0] for key in self.numbers if key.method.variant == "llm"}
        # The published means are over all base splits.
        beside = self.shown.published != "none" and self.shown.runs.splits is None
        for column in self.columns:
            source, note = method, []
            named = has_llm_names(column) or column.dataset in llm_runs
            if method.variant == "llm" and not named:
                # Planned as the base run: there are no LLM names for this data set (SPEC 5).
                source = replace(method, variant="base")
                note = [f"no LLM names for {column.title}: the base row repeated"]
            ours = self.numbers.get(CellKey(source, weights, checkpoint, column.key))
            published = None
            if beside and not protocol.demo:
                published = matching_number(protocol.name, method, column, weights, checkpoint)
            marks = () if ours is None else self.notes.of_cell(source, column, ours, note)
            cells.append(Cell(ours, published, marks, self.notes.of_published(published)))
        notes = self.notes.of_row(method)
        return Row(titles.of(method), weights, checkpoint, tuple(cells), method, notes)


def _with_published_rows(
    rows: list[Row],
    published: Sequence[Sequence[PublishedNumber]],
    columns: Sequence[Column],
    weights: WeightChoice,
    notes: Footnotes,
) -> list[Row]:
    """`rows` and the published ones that are beside none of them, in the paper's order."""
    with_one = [cell.published for row in rows for cell in row.cells if cell.published is not None]
    shown = {one.row for one in with_one}
    more = []
    for numbers in published:
        first = numbers[0]
        weight, title = _WEIGHT_WORDS[first.ensembled], first.method
        if first.row in shown or weights not in ("both", weight):
            continue
        by_column = {(one.dataset, one.part): one for one in numbers}
        beside = [by_column.get(column.key) for column in columns]
        if not any(beside):
            continue
        own = tuple(Cell(None, one, (), notes.of_published(one)) for one in beside)
        if first.variant != "base":
            title += f" ({VARIANT_TITLES[first.variant]})"
        more.append(Row(title, weight, "best", own))
    order = list(dict.fromkeys(("CLIP", "ViFi-CLIP", *(row[0].method for row in published))))
    return sorted(rows + more, key=lambda row: _position(row.kind, order))
