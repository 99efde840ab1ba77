"""A report as a grid of texts: what every printed format shows, before its own decoration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from results.layouts import HARMONIC, Column, statistic_words
from results.report import Cell, Report, Row
from results.statistics import Estimate

NOTHING = "–"
MARKS = {"within": "≈", "above": "↑", "below": "↓"}
LABELS = ("model", "weights", "epoch", "numbers")


@dataclass(frozen=True)
class Text:
    """A printed cell: its text, footnote numbers (1-based) and what it is, for colour."""

    text: str
    notes: tuple[int, ...] = ()
    kind: str = ""

    @property
    def marked(self) -> str:
        """The text with its footnotes in brackets."""
        marks = ",".join(map(str, self.notes))
        return f"{self.text} [{marks}]" if marks else self.text


@dataclass(frozen=True)
class Heading:
    """A pair of columns of one number: the paper's statistic, and the one over seeds."""

    dataset: str
    part: str
    paper: str
    seeds: str = "over seeds"

    @property
    def title(self) -> str:
        return f"{self.dataset} {self.part}".strip()


@dataclass(frozen=True)
class Line:
    """A printed line: labels (model, weights, epoch, what numbers) and two texts a heading."""

    labels: tuple[str, str, str, str]
    texts: tuple[Text, ...]
    first: bool


@dataclass(frozen=True)
class Grid:
    """One printed table."""

    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]


def grid(report: Report, wanted: Sequence[Column] | None = None) -> Grid:
    """The table of `wanted` columns (default: all), and of the rows that have any of them."""
    picked = [i for i, column in enumerate(report.columns) if wanted is None or column in wanted]
    lines: list[Line] = []
    for row in report.rows:
        lines += _row_lines(row, [row.cells[i] for i in picked])
    if lines:
        lines.append(_chance_line([report.columns[i] for i in picked]))
    return Grid(tuple(_headings(report, picked)), tuple(lines))


def panels(report: Report) -> list[list[Column]]:
    """The columns by data set, as the paper's tables group them."""
    return [list(group) for _, group in groupby(report.columns, key=lambda c: c.dataset)]


def _headings(report: Report, picked: Sequence[int]) -> list[Heading]:
    alone = len(report.columns) == len(panels(report))
    return [
        Heading(
            column.title,
            "" if alone and column.part == "top1" else column.part_title,
            statistic_words(report.protocol, len(column.units)),
        )
        for column in (report.columns[i] for i in picked)
    ]


def _row_lines(row: Row, cells: Sequence[Cell]) -> list[Line]:
    kinds = {
        "ours": any(cell.ours is not None for cell in cells),
        "published": any(cell.published is not None for cell in cells),
        "difference": any(cell.difference is not None for cell in cells),
    }
    lines: list[Line] = []
    for kind in (kind for kind, there in kinds.items() if there):
        labels = (row.title, row.weights, row.checkpoint, kind)
        texts = tuple(text for cell in cells for text in _TEXTS[kind](cell))
        lines.append(Line(labels, texts, first=not lines))
    return lines


def _ours(cell: Cell) -> tuple[Text, Text]:
    if cell.ours is None:
        return Text(NOTHING), Text(NOTHING)
    notes = tuple(index + 1 for index in cell.notes)
    kind = "partial" if cell.ours.partial else "ours"
    if cell.ours.paper is None:
        return Text("incomplete", notes, "missing"), Text(NOTHING)
    paper = number(cell.ours.paper) + (f" (n={cell.ours.paper.n})" if cell.ours.partial else "")
    seeds = Text(NOTHING)
    if cell.ours.seeds is not None:
        seeds = Text(f"{number(cell.ours.seeds)} (n={cell.ours.seeds.n})", (), kind)
    return Text(paper, notes, kind), seeds


def _published(cell: Cell) -> tuple[Text, Text]:
    if cell.published is None:
        return Text(NOTHING), Text(NOTHING)
    std = "" if cell.published.std is None else f" ± {cell.published.std:.1f}"
    return Text(f"{cell.published.value:.1f}{std}", (), "published"), Text(NOTHING)


def _difference(cell: Cell) -> tuple[Text, Text]:
    if cell.difference is None:
        return Text(NOTHING), Text(NOTHING)
    mark = f" {MARKS[cell.mark]}" if cell.mark else ""
    return Text(signed(cell.difference) + mark, (), cell.mark or "difference"), Text(NOTHING)


_TEXTS = {"ours": _ours, "published": _published, "difference": _difference}


def _chance_line(columns: Sequence[Column]) -> Line:
    texts = [text for c in columns for text in (Text(f"{c.chance:.2f}", (), "chance"), Text(""))]
    return Line(("chance", "", "", ""), tuple(texts), first=True)


def number(one: Estimate) -> str:
    """`54.2 ± 0.7`; `54.2 ± –` where a std needs more values; `54.2` where none is defined."""
    if one.std is not None:
        return f"{one.mean:.1f} ± {one.std:.1f}"
    spread_exists = one.axis == "seeds" or (one.axis != "single run" and one.n < 2)
    return f"{one.mean:.1f} ± {NOTHING}" if spread_exists else f"{one.mean:.1f}"


def signed(value: float) -> str:
    """A difference in percentage points with its sign; 0.0 has none."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text


def caption(report: Report) -> list[str]:
    """What the numbers are: statistic, axis, n, std's divisor, marks."""
    protocol = report.protocol
    units = len(report.columns[0].units)
    words, ddof = statistic_words(protocol, units), protocol.statistic.ddof
    if words == "single run":
        first = "first column: a single run's number; with several seeds their mean"
    else:
        first = (
            f"first column: mean ± std {words} of one model (ddof {ddof}: divisor n"
            f"{f' - {ddof}' if ddof else ''}); with several seeds both are averaged over the seeds"
        )
    lines = [
        "Percent of videos; an unreadable video counts as wrong.",
        f"{first[0].upper()}{first[1:]}.",
        "Over seeds: mean ± sample std (ddof 1: divisor n - 1) of the models' means, n seeds. "
        f"{NOTHING}: not there, or a std of one value.",
    ]
    if any(column.part == HARMONIC for column in report.columns):
        lines.append("HM: harmonic mean of the two means; over seeds: of each seed's own HM.")
    if any(row.has_published and row.has_ours for row in report.rows):
        lines.append(
            "Difference: ours - published; ≈ within, ↑ above, ↓ below the published std "
            "(no mark: none was published)."
        )
    return lines
