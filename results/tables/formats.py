"""A report in words: terminal, Markdown, JSON, CSV, LaTeX, HTML, and all of them in a folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
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

_WRITERS: dict[str, Callable[..., str]] = {
    "terminal": terminal.render,
    "md": markdown.render,
    "json": json_csv.to_json,
    "csv": json_csv.to_csv,
    "latex": latex.render,
    "html": html.render,
}
FORMATS = tuple(_WRITERS)
#: File endings that are not the format's name.
_ENDINGS = {"terminal": "txt", "latex": "tex"}
PAPER = "paper"


@dataclass(frozen=True)
class Page:
    """Several reports on one page, below `lines` on all of them."""

    title: str
    lines: tuple[str, ...]
    reports: tuple[Report, ...]


def render(report: Report | Page, format: str, **options: Any) -> str:
    """`report` as text in `format`, one of `FORMATS`; `options`: the terminal's, as of its
    `render`."""
    if isinstance(report, Page):
        return _render_page(report, format, options)
    return _WRITERS[format](report, **(options if format == "terminal" else {}))


def _render_page(page: Page, format: str, options: Mapping[str, Any]) -> str:
    if format == "html":
        return html.page(page.title, page.lines, page.reports)
    if format == "latex":
        return latex.document(page.reports, (f"{page.title}.", *page.lines))
    parts = [render(one, format, **options) for one in page.reports]
    if format == "json":
        head = json.dumps({"title": page.title, "progress": page.lines}, ensure_ascii=False)
        return f'{head[:-1]}, "reports": [\n{",".join(parts)}]}}\n'
    if format == "csv":
        return parts[0] + "".join(part.partition("\n")[2] for part in parts[1:])
    listed = "\n".join(f"- {line}" for line in page.lines)
    title = f"# {page.title}\n" if format == "md" else page.title
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
    options: dict[str, Any] = {"colour": Console().is_terminal, "encoding": sys.stdout.encoding}
    if sys.stdout.isatty():
        options["width"] = shutil.get_terminal_size().columns
    printing.show(render(report, format, **options), format)


def write(report: Report | Page, folder: Path | str) -> list[Path]:
    """Every format of `report` as files in `folder`, which is made; returns their paths.

    `<protocol>.txt .md .json .csv .tex .html`, and `<protocol>-demo.*` of a demo; of a page
    `paper.*`. OSError if the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(report, Page):
        stem, demo = PAPER, report.reports[0].protocol.demo
    else:
        stem, demo = report.protocol.name, report.protocol.demo
    stem += "-demo" * demo
    paths = []
    for format in FORMATS:
        path = folder / f"{stem}.{_ENDINGS.get(format, format)}"
        path.write_text(render(report, format), encoding="utf-8", errors="backslashreplace")
        paths.append(path)
    return paths
