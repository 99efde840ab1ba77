"""Predictions as a table for a terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.inference.answers import page
from experiments.inference.answers.timeline import NONE_OF_THESE, clock, scenes
from results.printing import printable
from results.reading.location import escaped

if TYPE_CHECKING:
    from tcclip.predict import Prediction

COLUMNS = ("video", "start", "end", "rank", "class", "probability", "rejected", "error")


def render(predictions: Sequence[Prediction], format: str, title: str) -> str:
    """`title`: of a page."""
    if format == "html":
        return page.render(predictions, title)
    return _WRITERS[format](predictions)


def _terminal(predictions: Sequence[Prediction]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table("video", box=None, pad_edge=False, header_style="bold")
    timed = any(one.windows for one in predictions)
    if timed:
        table.add_column("time")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for one in predictions:
        for number, (time, name, probability) in enumerate(_lines(one)):
            first = escaped(one.video) if not number else ""
            cells = [first, *([time] if timed else []), escaped(name), probability]
            table.add_row(*map(printable, cells))
    console = Console(highlight=False, markup=False, soft_wrap=False)
    if not console.is_terminal:  # a file or a pipe: no line is folded
        console = Console(highlight=False, markup=False, width=10_000)
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().splitlines())


def _lines(one: Prediction) -> Iterator[tuple[str, str, str]]:
    """(time, class, probability) of each line of a video."""
    if one.error is not None:
        yield "", f"cannot be read: {one.error}", ""
        return
    if one.rejected:
        yield "", NONE_OF_THESE, ""
    for scene in scenes(one.windows):
        time = f"{clock(scene.start)}-{clock(scene.end)}"
        yield time, scene.name, f"{100 * scene.probability:.1f} %"
    for name, probability in one.top:
        yield "all" if one.windows else "", name, f"{100 * probability:.1f} %"


def _json(predictions: Sequence[Prediction]) -> str:
    return json.dumps([one.as_json() for one in predictions], indent=1, ensure_ascii=False)


def _csv(predictions: Sequence[Prediction]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in predictions:
        if one.error is not None:
            writer.writerow([one.video, "", "", "", "", "", "", one.error])
        parts = [("", "", one.top, one.rejected)]
        parts += [(f"{w.start:g}", f"{w.end:g}", w.top, w.rejected) for w in one.windows]
        for start, end, top, rejected in parts:
            for rank, (name, probability) in enumerate(top, start=1):
                none = "" if rejected is None else str(rejected).lower()
                writer.writerow([one.video, start, end, rank, name, probability, none, ""])
    return file.getvalue().rstrip("\n")


_WRITERS: dict[str, Callable[[Sequence[Prediction]], str]] = {
    "terminal": _terminal,
    "json": _json,
    "csv": _csv,
}
