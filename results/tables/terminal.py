"""A report for the terminal: as wide as it is, in colour or without, marks in words besides."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text as Styled

from results.printing import printable
from results.report.report import Report
from results.statistics.columns import Column
from results.tables.caption import caption
from results.tables.text_table import (
    OVER_SEEDS,
    Text,
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


#: Lines of texts: two of titles, then the rows'.
_Table = list[list[Text]]


def render(
    report: Report, *, width: int = 120, colour: bool = False, encoding: str = "utf-8"
) -> str:
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
        if len(table) > 2:  # than its titles
            lines += [*_laid_out(table, width), Styled()]
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


def _tables(report: Report, width: int, encoding: str) -> list[_Table]:
    """One table if it fits, else one a data set, or as few as its columns fit into."""

    def table(columns: Sequence[Column]) -> _Table:
        return _table(report, columns, encoding)

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


def _table(report: Report, columns: Sequence[Column], encoding: str) -> _Table:
    """The table of `columns`, in characters that `encoding` has."""
    table = text_table(report, columns)
    above = [Text("", (), "label") for _ in table.labels]
    below = [Text(label, (), "label") for label in table.labels]
    for heading in table.headings:
        above += [Text(heading.title), Text("")]
        below += [Text(heading.paper), Text(OVER_SEEDS)]
    return [
        [Text(printable(text.marked, encoding), (), text.kind) for text in line]
        for line in (above, below, *(line.texts for line in table.lines))
    ]


def _column_widths(table: _Table) -> list[int]:
    return [max(len(text.text) for text in column) for column in zip(*table, strict=True)]


def _width(table: _Table) -> int:
    """Characters a line; longer names of rows than `_LONGEST_NAME` can be wrapped."""
    first, *others = _column_widths(table)
    return min(first, _LONGEST_NAME) + sum(others) + _GAP * len(others)


def _laid_out(table: _Table, width: int) -> list[Styled]:
    """The table's lines. Model names too long for `width` are wrapped."""
    first, *widths = _column_widths(table)
    first = min(first, max(_SHORTEST_NAME, width - sum(widths) - _GAP * len(widths)))
    lines: list[Styled] = []
    for number, (name, *texts) in enumerate(table):
        begin, *more = textwrap.wrap(name.text, first) or [""]
        line = Styled(begin.ljust(first), style="bold" if number < 2 else "")
        for text, room in zip(texts, widths, strict=True):
            shown = text.text.ljust(room) if text.kind == "label" else text.text.rjust(room)
            line.append(" " * _GAP + shown, style=STYLES.get(text.kind, ""))
        lines += [line, *(Styled(f"  {part}") for part in more)]
    return lines
