"""A report as GitHub Markdown."""

from __future__ import annotations

from results.report.report import Report
from results.tables.text_grid import Grid, Line, caption, grid, panels

#: Number columns beyond which a table is split by data set.
MAX_COLUMNS = 8


def render(report: Report) -> str:
    """Title, tables, caption, footnotes, what could not be used and what is not done."""
    parts = [f"## {report.protocol.title}"]
    parts += _tables(report) or ["No finished run."]
    parts.append("  \n".join(caption(report)))
    if report.notes:
        parts.append("\n".join(f"{i}. {_escape(n)}" for i, n in enumerate(report.notes, start=1)))
    if report.problems:
        parts.append(_list("Not used as they are", [str(one) for one in report.problems]))
    if report.unfinished:
        lines = [f"{one.run_id}: {one}" for one in report.unfinished]
        parts.append(_list("Not finished", lines))
    return "\n\n".join(parts) + "\n"


def _tables(report: Report) -> list[str]:
    if 2 * len(report.columns) <= MAX_COLUMNS:
        return _table(grid(report))
    return [text for panel in panels(report) for text in _table(grid(report, panel))]


def _table(one: Grid) -> list[str]:
    if not one.lines:
        return []
    heads = list(one.labels)
    for heading in one.headings:
        heads += [f"{heading.title}, {heading.paper}", f"{heading.title}, {heading.seeds}"]
    rows = ["| " + " | ".join(heads) + " |"]
    rows.append("|" + ":---|" * len(one.labels) + "---:|" * (2 * len(one.headings)))
    rows += [_row(line) for line in one.lines]
    return ["\n".join(rows)]


def _row(line: Line) -> str:
    cells = [*map(_escape, line.shown_labels), *(text.marked for text in line.texts)]
    return "| " + " | ".join(cells) + " |"


def _list(title: str, lines: list[str]) -> str:
    return "\n".join([f"**{title}**", "", *(f"- {_escape(line)}" for line in lines)])


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
