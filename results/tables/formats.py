"""A report in words: terminal, Markdown, JSON, CSV, LaTeX, HTML, and all of them in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from results.report.report import Report
from results.tables import html, json_csv, latex, markdown, terminal

#: Format -> (what writes it, file ending).
_WRITERS: dict[str, tuple[Callable[[Report], str], str]] = {
    "md": (markdown.render, "md"),
    "json": (json_csv.to_json, "json"),
    "csv": (json_csv.to_csv, "csv"),
    "latex": (latex.render, "tex"),
    "html": (html.render, "html"),
}
FORMATS = ("terminal", *_WRITERS)
#: Characters a line of the terminal's table in a file.
_FILE_WIDTH = 120


def render(report: Report, format: str, *, width: int | None = None, colour: bool = False) -> str:
    """`report` as text in `format`; ValueError naming the formats there are.

    `width` (characters a line) and `colour` are the terminal's: its table is split to fit.
    """
    if format == "terminal":
        return terminal.render(report, width=width or _FILE_WIDTH, colour=colour)
    if format not in _WRITERS:
        raise ValueError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    writer, _ = _WRITERS[format]
    return writer(report)


def write(report: Report, folder: Path | str) -> list[Path]:
    """Every format of `report` as files in `folder`, which is made; returns their paths.

    `<protocol>.txt .md .json .csv .tex .html`, and `<protocol>-demo.*` of a demo. OSError if the
    folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = report.protocol.name + ("-demo" if report.protocol.demo else "")
    endings = {"terminal": "txt"} | {name: ending for name, (_, ending) in _WRITERS.items()}
    paths = []
    for format, ending in endings.items():
        path = folder / f"{stem}.{ending}"
        path.write_text(render(report, format), encoding="utf-8")
        paths.append(path)
    return paths
