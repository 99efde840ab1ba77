"""A report on a terminal: rich tables, split to the width there is."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text as Styled

from results.report.report import Report
from results.statistics.columns import Column
from results.tables.text_grid import Grid, Text, caption, count, grid, panels, superscript

STYLES = {
    "within": "green", "above": "cyan", "below": "red", "missing": "yellow", "partial": "yellow",
    "published": "dim", "chance": "dim",
}  # fmt: skip
#: Spaces between two columns.
_GAP = 2
#: Characters a model's name keeps in a narrow terminal, whatever else does not fit.
_SHORTEST_NAME = 16


def render(report: Report, *, width: int, colour: bool) -> str:
    """The report in at most `width` characters a line, unless a single column needs more."""
    lines = [Styled(report.protocol.title, style="bold")]
    for one in (grid(report, part) for part in _split(report, width)):
        if one.lines:
            lines += [*_table(one, width), Styled()]
    lines += [] if report.rows else [Styled("No finished run.")]
    lines += [part for text in caption(report) for part in _wrapped(text, width, style="dim")]
    for number, note in enumerate(report.notes, start=1):
        lines += _wrapped(f"{superscript([number])} {note}", width)
    for problem in report.problems:
        lines += _wrapped(f"not used as it is: {problem}", width, style="red")
    if report.unfinished:
        text = f"{count(len(report.unfinished), 'run')} not finished:"
        lines.append(Styled(text, style="yellow"))
    for run in report.unfinished:
        lines += _wrapped(f"  {run.run_id}: {run}", width)
    return _printed(lines, colour)


def _wrapped(text: str, width: int, style: str = "") -> list[Styled]:
    wrapped = textwrap.wrap(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return [Styled(line, style=style) for line in wrapped]


def _printed(lines: Sequence[Styled], colour: bool) -> str:
    if not colour:
        return "".join(line.plain.rstrip() + "\n" for line in lines)
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=True, color_system="standard", highlight=False,
        legacy_windows=False,
    )  # fmt: skip
    for line in lines:
        console.print(line, soft_wrap=True)
    return file.getvalue()


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


def _columns(one: Grid) -> list[list[str]]:
    """Every column's texts, headings first."""
    columns = [[title] for title in one.labels]
    for heading in one.headings:
        columns += [[heading.title, heading.paper], [heading.seeds]]
    for line in one.lines:
        texts = (*line.labels, *(text.marked for text in line.texts))
        for column, text in zip(columns, texts, strict=True):
            column.append(text)
    return columns


def _widths(one: Grid) -> list[int]:
    return [max(map(len, column)) for column in _columns(one)]


def _needed(one: Grid) -> int:
    return sum(_widths(one)) + _GAP * (len(one.labels) + 2 * len(one.headings) - 1)


def _table(one: Grid, width: int) -> list[Styled]:
    """The table's lines. Model names too long for `width` are wrapped."""
    widths = _widths(one)
    widths[0] = min(widths[0], max(_SHORTEST_NAME, width - (_needed(one) - widths[0])))
    none = [""] * len(one.labels)
    above = [text for heading in one.headings for text in (heading.title, "")]
    below = [text for heading in one.headings for text in (heading.paper, heading.seeds)]
    lines = [
        _line(none, [Text(text) for text in above], widths, style="bold"),
        _line(one.labels, [Text(text) for text in below], widths, style="bold"),
    ]
    for line in one.lines:
        first, *others = textwrap.wrap(line.shown_labels[0], widths[0]) or [""]
        lines.append(_line([first, *line.shown_labels[1:]], line.texts, widths))
        lines += [Styled("  " + more) for more in others]
    return lines


def _line(
    labels: Sequence[str], texts: Sequence[Text], widths: Sequence[int], style: str = ""
) -> Styled:
    gap = " " * _GAP
    line = Styled(gap.join(map(str.ljust, labels, widths)), style=style)
    for text, room in zip(texts, widths[len(labels) :], strict=True):
        line.append(gap + text.marked.rjust(room), style=STYLES.get(text.kind, ""))
    return line
