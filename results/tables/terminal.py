"""A report for the terminal: as wide as it is, in colour or without, marks in words besides."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text as Styled

from results.printing import printable
from results.report.report import Report
from results.statistics.columns import Column
from results.tables.caption import caption
from results.tables.text_table import (
    OVER_SEEDS,
    Heading,
    Line,
    Text,
    TextTable,
    columns_by_dataset,
    count,
    superscript,
    text_table,
)

STYLES = {
    "within": "green", "above": "cyan", "below": "red", "missing": "yellow", "partial": "yellow",
    "published": "dim", "chance": "dim",
}  # fmt: skip
#: Spaces between two columns.
_GAP = 2
#: Characters a row's name keeps in a narrow terminal, whatever else does not fit, and has at most
#: before data sets stand in one table.
_SHORTEST_NAME, _LONGEST_NAME = 16, 32


def render(report: Report, *, width: int, colour: bool, encoding: str = "utf-8") -> str:
    """The report in at most `width` characters a line, unless a single column needs more.

    Characters that `encoding` lacks are replaced before anything is laid out.
    """
    lines = [Styled(report.protocol.title, style="bold")]

    def add(text: str, style: str = "") -> None:
        """Add a text below the tables, in lines."""
        wrapped = textwrap.wrap(
            printable(text, encoding), width,
            subsequent_indent="  ", break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        lines.extend(Styled(line, style=style) for line in wrapped)

    for table in _tables(report, width, encoding):
        if table.lines:
            lines += [*_table(table, width), Styled()]
    lines += [] if report.rows else [Styled("No finished run.")]
    for text in caption(report):
        add(text, "dim")
    for number, note in enumerate(report.notes, start=1):
        add(f"{superscript([number])} {note}")
    for problem in report.unread:
        add(f"not used as it is: {problem}", "red")
    if report.awaited:
        text = f"{count(len(report.awaited), 'run')} not finished:"
        lines.append(Styled(text, style="yellow"))
    for run in report.awaited:
        add(f"  {run.run_id}: {run}")
    return _printed(lines, colour)


def _printed(lines: Sequence[Styled], colour: bool) -> str:
    if not colour:
        return "".join(line.plain.rstrip() + "\n" for line in lines)
    console = Console(
        force_terminal=True, color_system="standard", highlight=False, legacy_windows=False
    )
    with console.capture() as capture:
        for line in lines:
            console.print(line, soft_wrap=True)
    return capture.get()


def _tables(report: Report, width: int, encoding: str) -> list[TextTable]:
    """One table if it fits, else one a data set, or as few as its columns fit into."""

    def table(columns: Sequence[Column]) -> TextTable:
        return _printable(text_table(report, columns), encoding)

    whole = table(report.columns)
    if _width(whole) <= width:
        return [whole]
    parts: list[list[Column]] = []
    for columns in columns_by_dataset(report):
        parts.append([])
        for column in columns:
            if parts[-1] and _width(table([*parts[-1], column])) > width:
                parts.append([])
            parts[-1].append(column)
    return [table(part) for part in parts]


def _printable(table: TextTable, encoding: str) -> TextTable:
    """The table in characters that `encoding` has."""

    def shown(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(printable(text, encoding) for text in texts)

    return TextTable(
        shown(table.labels),
        tuple(Heading(*shown((one.dataset, one.title, one.paper))) for one in table.headings),
        tuple(
            Line(
                shown((line.labels[0] + superscript(line.notes), *line.labels[1:])),
                tuple(Text(printable(one.marked, encoding), (), one.kind) for one in line.texts),
                line.first,
            )
            for line in table.lines
        ),
    )


def _column_widths(table: TextTable) -> list[int]:
    above, below = _headings(table)
    rows = [above, below]
    rows += [[*line.labels, *(text.marked for text in line.texts)] for line in table.lines]
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _headings(table: TextTable) -> tuple[list[str], list[str]]:
    """The two lines of column titles."""
    above, below = [""] * len(table.labels), list(table.labels)
    for heading in table.headings:
        above += [heading.title, ""]
        below += [heading.paper, OVER_SEEDS]
    return above, below


def _width(table: TextTable) -> int:
    """Characters a line; longer names of rows than `_LONGEST_NAME` can be wrapped."""
    widths = _column_widths(table)
    widths[0] = min(widths[0], _LONGEST_NAME)
    return sum(widths) + _GAP * (len(widths) - 1)


def _table(table: TextTable, width: int) -> list[Styled]:
    """The table's lines. Model names too long for `width` are wrapped."""
    widths, labels = _column_widths(table), len(table.labels)
    rest = sum(widths[1:]) + _GAP * (len(widths) - 1)
    widths[0] = min(widths[0], max(_SHORTEST_NAME, width - rest))
    lines = [
        _line(texts[:labels], [Text(text) for text in texts[labels:]], widths, style="bold")
        for texts in _headings(table)
    ]
    for line in table.lines:
        first, *others = textwrap.wrap(line.shown_labels[0], widths[0]) or [""]
        lines.append(_line([first, *line.shown_labels[1:]], line.texts, widths))
        lines += [Styled("  " + more) for more in others]
    return lines


def _line(
    labels: Sequence[str], texts: Sequence[Text], widths: Sequence[int], style: str = ""
) -> Styled:
    gap = " " * _GAP
    line = Styled(gap.join(map(str.ljust, labels, widths)), style=style)
    for text, width in zip(texts, widths[len(labels) :], strict=True):
        line.append(gap + text.marked.rjust(width), style=STYLES.get(text.kind, ""))
    return line
