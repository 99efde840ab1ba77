"""A report: the table of a protocol with everything one must know to quote it.

`report` is what `tcclip report` calls; `results.tables.formats` prints it and writes every format.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import protocols
from protocols.protocol import Protocol
from results.published.numbers import PublishedNumber, counterpart, peers
from results.reading.collect import Collected, Problem, Unfinished, collect
from results.report.footnotes import Remark, code_versions, remarks
from results.statistics.aggregate import (
    METHOD_COLUMNS,
    Aggregated,
    CellKey,
    Expected,
    Method,
    aggregate,
)
from results.statistics.columns import Column, columns, has_llm_names

WeightChoice = Literal["both", "raw", "ensembled"]
CheckpointChoice = Literal["best", "last", "both"]
Mark = Literal["within", "above", "below"]

_MODEL_TITLES = {"tc_clip": "TC-CLIP", "vifi_clip": "ViFi-CLIP", "clip": "CLIP"}
_VARIANT_TITLES = {"base": "", "llm": "LLM", "pretrained": "P"}
_WEIGHT_WORDS = {True: "ensembled", False: "raw", None: "not stated"}
#: Differences are compared with the spread at this many decimals: binary fractions are not exact.
_DECIMALS = 9
#: Causes a footnote spells out before it counts the rest.
_SPELLED_OUT = 4


@dataclass(frozen=True)
class Cell:
    """One column of a row: ours, the published number, footnotes (indices into `Report.notes`).

    `ours` is None where the sweep's grid has nothing for this column.
    """

    ours: Aggregated | None = None
    published: PublishedNumber | None = None
    notes: tuple[int, ...] = ()

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


@dataclass(frozen=True)
class Row:
    """A method under one weight set and checkpoint. `method` is None for published-only rows."""

    title: str
    weights: str
    checkpoint: str
    cells: tuple[Cell, ...]
    method: Method | None = None

    @property
    def has_ours(self) -> bool:
        return any(cell.ours is not None for cell in self.cells)

    @property
    def has_published(self) -> bool:
        return any(cell.published is not None for cell in self.cells)


@dataclass(frozen=True)
class Report:
    """What is shown: rows and columns, footnotes, and what could not be read or is not done."""

    protocol: Protocol
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    #: Remarks on the runs as a whole, which no footnote mark refers to.
    general: tuple[str, ...]
    collected: Collected
    partial: bool
    #: run_id -> address of its page, where there is one.
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.collected.problems

    @property
    def unfinished(self) -> tuple[Unfinished, ...]:
        return self.collected.unfinished

    @property
    def runs(self) -> int:
        """Finished runs in the report."""
        return int(self.collected.table["run_id"].nunique())

    @property
    def complete(self) -> bool:
        """Whether there is a result, nothing was unreadable and no cell lacks a number."""
        cells = [cell.ours for row in self.rows for cell in row.cells if cell.ours is not None]
        return bool(cells) and not self.problems and not any(cell.missing for cell in cells)


def report(
    outs: Sequence[Path | str] | Path | str,
    protocol: str,
    *,
    demo: bool = False,
    partial: bool = False,
    weights: WeightChoice = "both",
    checkpoint: CheckpointChoice = "best",
    seeds: Sequence[int] | None = None,
    with_peers: bool = True,
    links: Mapping[str, str] | None = None,
) -> Report:
    """The report of `protocol` from the runs under `outs`.

    `seeds`: those a complete row needs (default: the seeds of the runs there are). `partial`
    averages incomplete cells, marked. `with_peers`: also published rows without runs of ours.
    ValueError for an unknown protocol, FileNotFoundError for a missing output folder.
    """
    definition = protocols.get(protocol, demo=demo)
    collected = collect(outs, protocol, demo)
    return build(
        collected, definition, partial=partial, weights=weights, checkpoint=checkpoint,
        seeds=seeds, with_peers=with_peers, links=links,
    )  # fmt: skip


def build(
    collected: Collected,
    protocol: Protocol,
    *,
    partial: bool = False,
    weights: WeightChoice = "both",
    checkpoint: CheckpointChoice = "best",
    seeds: Sequence[int] | None = None,
    with_peers: bool = True,
    links: Mapping[str, str] | None = None,
) -> Report:
    """The report of what was collected; see `report`."""
    numbers = aggregate(collected, protocol, partial=partial, seeds=seeds)
    notes = _Notes(collected, protocol, Expected(collected, protocol, seeds))
    layout = columns(protocol, collected.table)
    rows = [
        _row(method, weight, epoch, numbers, layout, notes, protocol)
        for method, weight, epoch in _order(numbers)
        if weights in ("both", weight) and checkpoint in ("both", epoch)
    ]
    if with_peers and not protocol.demo:
        rows = _with_peers(rows, protocol, layout, weights)
    return Report(
        protocol,
        layout,
        tuple(rows),
        notes.texts(),
        tuple(notes.general),
        collected,
        partial,
        dict(links or {}),
    )


def pictured(report: Report, most: int) -> list[Method]:
    """The methods that plots show: at most `most`, those with plain settings first."""
    methods = dict.fromkeys(row.method for row in report.rows if row.method is not None)
    chosen = sorted(methods, key=lambda method: method.overrides != "")[:most]
    return [method for method in methods if method in chosen]


def method_title(method: Method) -> str:
    """A row's name, e.g. `TC-CLIP (LLM) [train.lr=1e-5]`."""
    title = _MODEL_TITLES.get(method.model, method.model)
    variant = _VARIANT_TITLES.get(method.variant, method.variant)
    if variant:
        title += f" ({variant})"
    if method.overrides:
        title += f" [{method.overrides}]"
    if method.origin != "trained":
        title += f" [from {method.origin}]"
    return title


def _order(numbers: Iterable[CellKey]) -> list[tuple[Method, str, str]]:
    """Rows in the paper's order of models and variants, plain settings and raw weights first."""
    models, variants = ("clip", "vifi_clip", "tc_clip"), tuple(_VARIANT_TITLES)

    def rank(row: tuple[Method, str, str]) -> tuple[object, ...]:
        method, weights, epoch = row
        model = models.index(method.model) if method.model in models else len(models)
        variant = variants.index(method.variant) if method.variant in variants else len(variants)
        return (
            model, method.model, variant, method.variant, method.protocol_version,
            method.overrides, method.origin, weights == "ensembled", epoch == "last",
        )  # fmt: skip

    return sorted({(k.method, k.weights, k.checkpoint) for k in numbers}, key=rank)


def _row(
    method: Method,
    weights: str,
    checkpoint: str,
    numbers: Mapping[CellKey, Aggregated],
    layout: Sequence[Column],
    notes: _Notes,
    protocol: Protocol,
) -> Row:
    cells = []
    for column in layout:
        source, extra = method, []
        if method.variant == "llm" and not has_llm_names(column):
            # Planned as the base run: no LLM names were published for this data set (SPEC 5).
            source = Method(
                method.model, "base", method.overrides, method.origin, method.protocol_version
            )
            extra = [f"no LLM names for {column.title}: the base row repeated"]
        ours = numbers.get(CellKey(source, weights, checkpoint, column.key))
        published = (
            None
            if protocol.demo
            else counterpart(protocol.name, method, column, weights, checkpoint)
        )
        marks = notes.of(source, column, ours, extra) if ours is not None else ()
        cells.append(Cell(ours, published, marks))
    return Row(method_title(method), weights, checkpoint, tuple(cells), method)


def _with_peers(
    rows: list[Row], protocol: Protocol, layout: Sequence[Column], weights: WeightChoice
) -> list[Row]:
    """`rows` and the published rows none of them stands beside, in the paper's order."""
    shown = {
        (cell.published.method, cell.published.variant, cell.published.ensembled)
        for row in rows
        for cell in row.cells
        if cell.published is not None
    }
    alone = []
    for (method, variant, ensembled), numbers in peers(protocol.name).items():
        weight = _WEIGHT_WORDS[ensembled]
        if (method, variant, ensembled) in shown or weights not in ("both", weight):
            continue
        by_column = {(one.dataset, one.part): one for one in numbers}
        cells = tuple(Cell(published=by_column.get(column.key)) for column in layout)
        title = f"{method} ({_VARIANT_TITLES[variant]})" if variant != "base" else method
        alone.append(Row(title, weight, "best", cells))
    published = (method for method, _, _ in peers(protocol.name))
    order = list(dict.fromkeys(("CLIP", "ViFi-CLIP", *published)))
    return sorted(rows + alone, key=lambda row: _family(row.title, order))


def _family(title: str, order: Sequence[str]) -> int:
    name = title.split(" (")[0].split(" [")[0]
    return order.index(name) if name in order else len(order)


class _Notes:
    """Numbers the footnotes in the order in which the table needs them."""

    def __init__(self, collected: Collected, protocol: Protocol, expected: Expected) -> None:
        self._expected = expected
        self._indices: dict[str, int] = {}
        self._remarks: dict[tuple[Method, str, int | None], dict[Remark, set[_Place]]]
        self._remarks = defaultdict(lambda: defaultdict(set))
        runs = collected.table.drop_duplicates("run_id")
        found = remarks(runs, protocol)
        everywhere = _of_all_runs(found, len(runs))
        several = code_versions(runs)
        #: What holds for the whole table, said once below it.
        self.general = ([several] if several else []) + [f"All runs: {r.text}" for r in everywhere]
        names = ["run_id", *METHOD_COLUMNS, "trained_on", "shots", "base_split", "seed"]
        runs = runs.astype({"shots": object, "base_split": object})
        for row in zip(*(runs[name].tolist() for name in names), strict=True):
            shots, split = (value if isinstance(value, int) else None for value in row[7:9])
            for remark in found.get(row[0], ()):
                if remark not in everywhere:
                    self._remarks[Method(*row[1:6]), row[6], shots][remark].add((split, row[9]))

    def of(
        self, method: Method, column: Column, ours: Aggregated, extra: Iterable[str]
    ) -> tuple[int, ...]:
        """Footnotes of a cell, as indices."""
        title = method_title(method)
        texts = list(extra)
        if ours.missing:
            verb = "averaged without" if ours.partial else "incomplete, no average"
            texts.append(f"{title}: {verb}: {_some(ours.missing)}")
        others = self._expected.other_seeds(method, column.trained_on)
        if others and self._expected.asked is None:
            plural = "s" if len(others) > 1 else ""
            listed = ", ".join(map(str, others))
            texts.append(f"{title}: no run with seed{plural} {listed}, which other rows have")
        about = self._remarks.get((method, column.trained_on, column.shots), {})
        for remark, places in about.items():
            if remark.dataset in (None, column.dataset, column.trained_on):
                texts.append(f"{title}: {remark.text} ({_places(places)})")
        return tuple(self._indices.setdefault(text, len(self._indices)) for text in texts)

    def texts(self) -> tuple[str, ...]:
        return tuple(self._indices)


#: A run within its cell: base split, if the protocol has them, and seed.
_Place = tuple[int | None, int]


def _of_all_runs(found: Mapping[str, Sequence[Remark]], runs: int) -> list[Remark]:
    """Remarks on every run of a report of several: said once, below the footnotes."""
    counts = Counter(remark for own in found.values() for remark in own)
    return [remark for remark, n in counts.items() if n == runs > 1]


def _places(places: Iterable[_Place]) -> str:
    """`seeds 0, 1`, or `seed 0 of base split 2; seeds 0, 1 of base split 3`."""
    by_split: dict[int | None, list[int]] = defaultdict(list)
    for split, seed in sorted(places, key=lambda place: (place[0] or 0, place[1])):
        by_split[split].append(seed)
    return _some(
        [
            f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
            + ("" if split is None else f" of base split {split}")
            for split, seeds in by_split.items()
        ]
    )


def _some(texts: Sequence[str]) -> str:
    shown = "; ".join(texts[:_SPELLED_OUT])
    rest = len(texts) - _SPELLED_OUT
    return f"{shown}; and {rest} more" if rest > 0 else shown
