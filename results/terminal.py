"""A report on a terminal: rich tables, split to the width there is."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from results.grid import Grid, Text, caption, count, grid, panels, superscript
from results.layouts import Column
from results.report import Report

STYLES = {
    "within": "green", "above": "cyan", "below": "red", "missing": "yellow", "partial": "yellow",
    "published": "dim", "chance": "dim",
}  # fmt: skip
#: Columns of padding and rule between two table columns.
_GAP = 2


def render(report: Report, *, width: int, colour: bool) -> str:
    """The report in at most `width` characters a line."""
    console = Console(
        file=io.StringIO(), width=width, highlight=False, legacy_windows=False,
        force_terminal=colour, color_system="standard" if colour else None, emoji=False,
        markup=False,
    )  # fmt: skip
    console.print(Styled(report.protocol.title, style="bold"))
    tables = [grid(report, part) for part in _split(report, width)]
    for one in (one for one in tables if one.lines):
        console.print(_table(one))
        console.print()
    if not report.rows:
        console.print("No finished run.")
    for line in caption(report):
        console.print(Styled(line, style="dim"))
    for number, note in enumerate(report.notes, start=1):
        console.print(f"{superscript([number])} {note}")
    for problem in report.problems:
        console.print(Styled(f"not used as it is: {problem}", style="red"))
    if report.unfinished:
        console.print(
            Styled(f"{count(len(report.unfinished), 'run')} not finished:", style="yellow")
        )
    for run in report.unfinished:
        console.print(f"  {run.run_id}: {run}")
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().split("\n"))


def _split(report: Report, width: int) -> list[list[Column]]:
    """Consecutive columns for each table: all if they fit, else by data set, else one by one."""
    everything = list(report.columns)
    if _needed(grid(report, everything)) <= width:
        return [everything]
    parts: list[list[Column]] = []
    for panel in panels(report):
        if _needed(grid(report, panel)) <= width:
            parts.append(panel)
        else:
            parts += _fill(report, panel, width)
    return parts


def _fill(report: Report, panel: Sequence[Column], width: int) -> list[list[Column]]:
    parts: list[list[Column]] = [[]]
    for column in panel:
        if parts[-1] and _needed(grid(report, [*parts[-1], column])) > width:
            parts.append([])
        parts[-1].append(column)
    return parts


def _cells(one: Grid) -> list[list[str]]:
    """Every column's texts, headings first."""
    heads = [[title] for title in one.labels]
    for heading in one.headings:
        heads += [[heading.title, heading.paper], [heading.seeds]]
    for line in one.lines:
        for column, text in zip(
            heads, (*line.labels, *(t.marked for t in line.texts)), strict=True
        ):
            column.append(text)
    return heads


def _needed(one: Grid) -> int:
    return sum(max(map(len, column)) + _GAP for column in _cells(one))


def _table(one: Grid) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for title in one.labels:
        table.add_column(f"\n{title}", no_wrap=title != one.labels[0], overflow="fold")
    for heading in one.headings:
        table.add_column(f"{heading.title}\n{heading.paper}", justify="right", no_wrap=True)
        table.add_column(f"\n{heading.seeds}", justify="right", no_wrap=True)
    for line in one.lines:
        table.add_row(*line.shown_labels, *(_styled(text) for text in line.texts))
    return table


def _styled(text: Text) -> Styled:
    return Styled(text.marked, style=STYLES.get(text.kind, ""))
