"""The report's table as texts: what every printed format shows, before its own decoration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from results.report.report import Cell, Report
from results.statistics.columns import Column, statistic_title
from results.statistics.mean_std import Estimate

#: What a cell without a number shows.
NOTHING = "–"
OVER_SEEDS = "over seeds"
#: Number columns (two a heading) beyond which a table is split by data set.
MAX_COLUMNS = 8
_MARKS = {"within": "≈", "above": "↑", "below": "↓"}
#: Label columns of a row's fields.
_LABELS = {"title": "Model", "weights": "Weights", "checkpoint": "Epoch"}
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Text:
    """A printed cell: its text, footnote numbers (1-based) and what it is, for colour."""

    text: str
    notes: tuple[int, ...] = ()
    kind: str = ""

    @property
    def marked(self) -> str:
        """The text with its footnotes as superscript digits."""
        return self.text + superscript(self.notes)


_EMPTY, _NO_LABEL = Text(NOTHING), Text("", (), "label")


@dataclass(frozen=True)
class Heading:
    """What stands above two columns: the `paper`'s statistic, and the one over seeds."""

    dataset: str
    title: str
    paper: str


@dataclass(frozen=True)
class Line:
    """A printed line: its labels (as `TextTable.labels` names them), then two texts a heading.

    `first`: of its row; the lines after it have the last label alone.
    """

    texts: tuple[Text, ...]
    first: bool


@dataclass(frozen=True)
class TextTable:
    """One printed table. `labels`: titles of the label columns; the last one's is empty."""

    labels: tuple[str, ...]
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]


def text_tables(report: Report) -> list[TextTable]:
    """The report's table as one, or as one a data set if it is wide; none without rows."""
    if 2 * len(report.columns) <= MAX_COLUMNS:
        tables = [text_table(report, report.columns)]
    else:
        tables = [text_table(report, columns) for columns in columns_by_dataset(report)]
    return [table for table in tables if table.lines]


def columns_by_dataset(report: Report) -> list[list[Column]]:
    """The columns of each data set, as the paper's tables group them."""
    return [list(group) for _, group in groupby(report.columns, key=lambda c: c.dataset)]


def text_table(report: Report, columns: Sequence[Column]) -> TextTable:
    """The table of `columns`, and of the rows that have any of them.

    Weights and epoch have a column of their own only where they differ between rows.
    """
    fields = [
        name
        for name in _LABELS
        if name == "title" or len({getattr(row, name) for row in report.rows}) > 1
    ]
    lines: list[Line] = []
    for row in report.rows:
        of_row = zip(report.columns, row.cells, strict=True)
        notes = {"title": row.notes}
        labels = [Text(getattr(row, name), notes.get(name, ()), "label") for name in fields]
        lines += _lines(labels, [cell for column, cell in of_row if column in columns])
    if lines:
        chance = [Text(f"{column.chance:.2f}", (), "chance") for column in columns]
        texts = (text for one in chance for text in (one, Text("")))
        labels = [Text("chance", (), "label"), *[_NO_LABEL] * len(fields)]
        lines.append(Line((*labels, *texts), first=True))
    one_each = len(report.columns) == len(columns_by_dataset(report))
    headings = []
    for column in columns:
        part = "" if one_each and column.part == "top1" else f" {column.part_title}"
        paper = statistic_title(report.protocol, column)
        headings.append(Heading(column.title, column.title + part, paper))
    titles = (*(_LABELS[name] for name in fields), "")
    return TextTable(titles, tuple(headings), tuple(lines))


def _lines(labels: Sequence[Text], cells: Sequence[Cell]) -> list[Line]:
    """A row's lines: ours, published and their difference, those that have a number."""
    seeds = _usual_seeds(cells)
    ours = f"ours, {count(seeds, 'seed')}" if seeds else "ours"
    texts = {
        ours: [_ours(cell, seeds) for cell in cells],
        "published": [(_published(cell), _EMPTY) for cell in cells],
        "difference": [(_difference(cell), _noise(cell)) for cell in cells],
    }
    lines: list[Line] = []
    for label, pairs in texts.items():
        if any(first is not _EMPTY for first, _ in pairs):
            both = (text for pair in pairs for text in pair)
            lines.append(Line((*labels, Text(label, (), "label"), *both), first=not lines))
            labels = [_NO_LABEL] * len(labels)
    return lines


def _usual_seeds(cells: Sequence[Cell]) -> int | None:
    """The most common n over seeds of a row, named once; other cells name their own."""
    counts = Counter(cell.ours.seeds.n for cell in cells if cell.ours and cell.ours.seeds)
    return counts.most_common(1)[0][0] if counts else None


def _ours(cell: Cell, usual_seeds: int | None) -> tuple[Text, Text]:
    if cell.ours is None:
        return _EMPTY, _EMPTY
    if cell.ours.paper is None or cell.ours.seeds is None:
        return Text("incomplete", cell.notes, "missing"), _EMPTY
    kind = "partial" if cell.ours.partial else "ours"
    paper, seeds = number(cell.ours.paper), number(cell.ours.seeds)
    if cell.ours.partial:
        paper += f" (n={cell.ours.paper.n})"
    if cell.ours.seeds.n != usual_seeds:
        seeds += f" (n={cell.ours.seeds.n})"
    return Text(paper, cell.notes, kind), Text(seeds, (), kind)


def _published(cell: Cell) -> Text:
    if cell.published is None:
        return _EMPTY
    std = "" if cell.published.std is None else f" ± {cell.published.std:.1f}"
    return Text(f"{cell.published.value:.1f}{std}", cell.published_notes, "published")


def _difference(cell: Cell) -> Text:
    if cell.difference is None:
        return _EMPTY
    mark = f" {_MARKS[cell.mark]}" if cell.mark else ""
    return Text(signed(cell.difference) + mark, (), cell.mark or "difference")


def _noise(cell: Cell) -> Text:
    """Whether seeds alone explain the difference."""
    if cell.noise is None or cell.difference is None:
        return _EMPTY
    where = "within" if abs(cell.difference) <= cell.noise else "beyond"
    return Text(f"{where} ±{cell.noise:.1f}", (), "difference")


def number(one: Estimate) -> str:
    """`54.2 ± 0.7`; `54.2 ± –` where a std needs more values; `54.2` where none is defined."""
    if one.std is not None:
        return f"{one.mean:.1f} ± {one.std:.1f}"
    std_exists = one.axis == "seeds" or (one.axis != "single run" and one.n < 2)
    return f"{one.mean:.1f} ± {NOTHING}" if std_exists else f"{one.mean:.1f}"


def count(n: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def superscript(notes: Sequence[int]) -> str:
    """Footnote numbers as superscript digits."""
    return ",".join(str(note).translate(_SUPERSCRIPTS) for note in notes)


def signed(value: float) -> str:
    """A difference in percentage points with its sign; 0.0 has none."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text
