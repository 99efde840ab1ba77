"""A report in words: terminal, Markdown, JSON, CSV, LaTeX, HTML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from results.report import Report

Format = Literal["terminal", "md", "json"]
FORMATS: tuple[str, ...] = get_args(Format)


def render(report: Report, format: str, *, width: int | None = None, colour: bool = False) -> str:
    """`report` as text in `format`; ValueError naming the formats there are.

    `width` (characters) and `colour` are the terminal's: the table is split to fit.
    """
    if format == "terminal":
        from results import terminal

        return terminal.render(report, width=width or 100, colour=colour)
    if format not in _WRITERS:
        raise ValueError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    return _WRITERS[format](report)


def _markdown(report: Report) -> str:
    from results import markdown

    return markdown.render(report)


def _json(report: Report) -> str:
    from results import machine

    return machine.to_json(report)


_WRITERS: dict[str, Callable[[Report], str]] = {"md": _markdown, "json": _json}
