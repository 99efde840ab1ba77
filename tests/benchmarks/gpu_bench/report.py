"""Rows of measurements, written after each one, and the time that is left for more."""

from __future__ import annotations

import datetime
import gc
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
#: What a row of a kind may take before one was measured, seconds; a compilation takes long.
FIRST_GUESS = {"cuda": {"eager": 12.0, "compiled": 60.0}, "cpu": {"eager": 3.0, "compiled": 40.0}}


@dataclass
class Report:
    """The rows of every block, in order. `about` is said of each row: card, torch and so on.

    `folder`: where gpu_bench_DATE.jsonl and .md are written anew after every row; None: nowhere.
    """

    about: Mapping[str, str]
    seconds: float
    folder: Path | None = None
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    slowest: dict[str, float] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds of the time that was given."""
        return self.seconds - (time.monotonic() - self.started)

    def measure(
        self, block: str, configurations: Iterable[Row], measure: Callable[..., Row | None]
    ) -> None:
        """A row for each configuration: its settings and what `measure(**settings)` answers.

        One that fails says why in its row, and the others are measured. One that the time left
        is too short for, by the slowest of its kind so far, is listed as not measured.
        """
        for settings in configurations:
            kind = "compiled" if settings.get("compile") else "eager"
            alike = f"{block} {settings.get('mode')} {kind}"
            device = "cuda" if "cuda" in self.about["device"] else "cpu"
            expected = self.slowest.get(alike, FIRST_GUESS[device][kind])
            named = ", ".join(f"{key} {value}" for key, value in settings.items())
            if self.left() < expected:
                self.missing.append(f"{block}: {named} (no time left)")
                continue
            began = time.monotonic()
            values = self._attempt(measure, settings)
            took = time.monotonic() - began
            self.slowest[alike] = max(self.slowest.get(alike, 0), took)
            self.add(block, settings | values | {"row_seconds": round(took, 1)})
            _clean_up()

    def _attempt(self, measure: Callable[..., Row | None], settings: Row) -> Row:
        try:
            with _warnings() as said:
                row = measure(**settings) or {}
            return row | ({"warned": "; ".join(said)} if said else {})
        except torch.OutOfMemoryError:
            return {"failed": "out of memory"}
        except Exception as error:  # noqa: BLE001  the row says so, the others are measured
            traceback.print_exc()
            said = str(error).strip().splitlines() or [""]
            return {"failed": f"{type(error).__name__}: {said[0][:160]}"}

    def add(self, block: str, values: Row) -> None:
        """A row, printed and written at once."""
        self.rows.append({"block": block, **values})
        print(f"[{self.left():.0f} s left] {json.dumps(self.rows[-1])}", flush=True)
        self.write()

    def add_text(self, title: str, text: str) -> None:
        """A table of its own."""
        self.texts.append((title, text))
        print(f"{title}\n{text}", flush=True)
        self.write()

    def write(self) -> None:
        if self.folder is None:
            return
        stem = f"gpu_bench_{datetime.date.today().isoformat()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({**self.about, **row}) for row in self.rows]
        (self.folder / f"{stem}.jsonl").write_text("\n".join(lines) + "\n")
        (self.folder / f"{stem}.md").write_text(self.markdown())

    def markdown(self) -> str:
        """Everything so far, a table for each block."""
        parts = [f"# GPU benchmark, {datetime.date.today().isoformat()}", ""]
        parts += [f"- {key}: {value}" for key, value in self.about.items()]
        for block in dict.fromkeys(row["block"] for row in self.rows):
            rows = [{k: v for k, v in row.items() if k != "block"} for row in self.rows
                    if row["block"] == block]  # fmt: skip
            parts += ["", f"## {block}", "", *_table(rows)]
        for title, text in self.texts:
            parts += ["", f"## {title}", "", "```", text, "```"]
        if self.missing:
            parts += ["", "## Not measured", "", *(f"- {one}" for one in self.missing)]
        return "\n".join(parts) + "\n"


def _table(rows: list[Row]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append(f"| {' | '.join(_cell(row.get(key)) for key in columns)} |")
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the product logs as a warning meanwhile, such as that it does not compile."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage()[:200])

    handler, logger = Keep(logging.WARNING), logging.getLogger("tcclip")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _clean_up() -> None:
    """Forget compiled code and free memory, so that rows do not touch each other."""
    gc.collect()
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
