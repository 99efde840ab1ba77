"""A report in words: terminal, Markdown, JSON, CSV, LaTeX, HTML, and all of them in a folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from results import printing
from results.report.report import Report
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


def show(report: Report, format: str) -> None:
    """Print a report; for a terminal as wide as it is, in colour where it has any."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    colour, encoding = Console().is_terminal, sys.stdout.encoding
    text = render(report, format, width=width, colour=colour, encoding=encoding)
    printing.show(text, format)


def write(report: Report, folder: Path | str) -> list[Path]:
    """Every format of `report` as files in `folder`, which is made; returns their paths.

    `<protocol>.txt .md .json .csv .tex .html`, and `<protocol>-demo.*` of a demo. OSError if the
    folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = report.protocol.name + ("-demo" if report.protocol.demo else "")
    paths = []
    for format in FORMATS:
        path = folder / f"{stem}.{_ENDINGS.get(format, format)}"
        path.write_text(render(report, format), encoding="utf-8", errors="backslashreplace")
        paths.append(path)
    return paths
