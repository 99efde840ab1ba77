"""A report as GitHub Markdown."""

from __future__ import annotations

from results.report.report import Report
from results.tables.caption import caption
from results.tables.text_table import OVER_SEEDS, TextTable, text_tables


def render(report: Report) -> str:
    """Title, tables, caption, footnotes, what could not be used and what is not done."""
    parts = [f"## {report.protocol.title}"]
    parts += [_table(table) for table in text_tables(report)] or ["No finished run."]
    parts.append("  \n".join(map(_escape, caption(report))))
    if report.notes:
        parts.append("\n".join(f"{i}. {_escape(n)}" for i, n in enumerate(report.notes, start=1)))
    if report.unread:
        parts.append(_list("Not used as they are", [str(one) for one in report.unread]))
    if report.awaited:
        lines = [f"{one.run_id}: {one}" for one in report.awaited]
        parts.append(_list("Not finished", lines))
    return "\n\n".join(parts) + "\n"


def _table(table: TextTable) -> str:
    titles = list(table.labels)
    for heading in table.headings:
        titles += [f"{heading.title}, {heading.paper}", f"{heading.title}, {OVER_SEEDS}"]
    rule = "|" + ":---|" * len(table.labels) + "---:|" * (2 * len(table.headings))
    lines = ["| " + " | ".join(titles) + " |", rule]
    for line in table.lines:
        cells = " | ".join(_escape(text.marked) for text in line.texts)
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def _list(title: str, lines: list[str]) -> str:
    return "\n".join([f"**{title}**", "", *(f"- {_escape(line)}" for line in lines)])


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
