"""A report in words: terminal, Markdown, JSON, CSV, LaTeX, HTML, and all of them in a folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from protocols import PROTOCOLS
from results import printing
from results.reading.run_filter import EVERY_RUN, RunFilter
from results.report.report import Report
from results.report.report import report as make_report
from results.report.shown import PublishedChoice, Shown
from results.tables import html, json_csv, latex, markdown, terminal

_WRITERS: dict[str, Callable[[Report], str]] = {
    "md": markdown.render,
    "json": json_csv.to_json,
    "csv": json_csv.to_csv,
    "latex": latex.render,
    "html": html.render,
}
FORMATS = ("terminal", *_WRITERS)
#: File endings that are not the format's name.
_ENDINGS = {"terminal": "txt", "latex": "tex"}
#: Characters a line of the terminal's table in a file.
_FILE_WIDTH = 120


def render(
    report: Report,
    format: str,
    *,
    width: int | None = None,
    colour: bool = False,
    encoding: str = "utf-8",
) -> str:
    """`report` as text in `format`, one of `FORMATS`.

    `width` (characters a line), `colour` and `encoding` are the terminal's: its table is split to
    fit, and has substitutes for characters that the encoding lacks.
    """
    if format == "terminal":
        width = width or _FILE_WIDTH
        return terminal.render(report, width=width, colour=colour, encoding=encoding)
    return _WRITERS[format](report)


PAPER = "paper"


@dataclass(frozen=True)
class Page:
    """Several reports on one page, below `lines` on all of them."""

    title: str
    lines: tuple[str, ...]
    reports: tuple[Report, ...]

    def render(self, format: str, **terminal: Any) -> str:
        """The page as text; `terminal`: what `render` takes of one."""
        if format == "html":
            return html.page(self.title, self.lines, self.reports)
        if format == "latex":
            return latex.document(self.reports, (f"{self.title}.", *self.lines))
        parts = [render(one, format, **terminal) for one in self.reports]
        if format == "json":
            head = json.dumps({"title": self.title, "progress": self.lines}, ensure_ascii=False)
            return f'{head[:-1]}, "reports": [\n{",".join(parts)}]}}\n'
        if format == "csv":
            return parts[0] + "".join(part.partition("\n")[2] for part in parts[1:])
        listed = "\n".join(f"- {line}" for line in self.lines)
        title = f"# {self.title}\n" if format == "md" else self.title
        return "\n".join([title, listed, "", *parts])


def make(
    outs: Sequence[str],
    protocol: str,
    runs: RunFilter = EVERY_RUN,
    published: PublishedChoice = "beside",
    *,
    demo: bool = False,
    **options: Any,
) -> Report | Page:
    """The report of a protocol, or of `PAPER` a page of all protocols', with every published row.

    `options`: those of `report`. Errors as there.
    """
    if protocol != PAPER:
        return make_report(outs, protocol, demo=demo, shown=Shown(runs, published), **options)
    if published == "beside":
        published = "all"
    wanted = {"shots": runs.shots, "base_split": runs.splits}
    axes = {axis for axis, values in wanted.items() if values is not None}
    names = [name for name, one in PROTOCOLS.items() if not axes or {one.axis} == axes]
    if not names:
        raise ValueError("no protocol has --shots and --splits; leave one of them out")
    reports = [
        make_report(outs, name, demo=demo, shown=Shown(runs, published), **options)
        for name in names
    ]
    return Page("The paper's tables" + " (demo)" * demo, (), tuple(reports))


def show(report: Report | Page, format: str) -> None:
    """Print a report; for a terminal as wide as it is, in colour where it has any."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    terminal: Any = {
        "width": width, "colour": Console().is_terminal, "encoding": sys.stdout.encoding,
    }  # fmt: skip
    if isinstance(report, Page):
        printing.show(report.render(format, **terminal), format)
    else:
        printing.show(render(report, format, **terminal), format)


def write(report: Report | Page, folder: Path | str) -> list[Path]:
    """Every format of `report` as files in `folder`, which is made; returns their paths.

    `<protocol>.txt .md .json .csv .tex .html`, and `<protocol>-demo.*` of a demo; of a page
    `paper.*`. OSError if the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    first = report.reports[0] if isinstance(report, Page) else report
    stem = "paper" if isinstance(report, Page) else report.protocol.name
    stem += "-demo" if first.protocol.demo else ""
    paths = []
    for format in FORMATS:
        path = folder / f"{stem}.{_ENDINGS.get(format, format)}"
        text = report.render(format) if isinstance(report, Page) else render(report, format)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
        paths.append(path)
    return paths
