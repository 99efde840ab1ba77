"""What a running sweep shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from experiments.errors import StorageError
from experiments.monitor.status import RunStatus, only, statuses
from experiments.monitor.table import COLUMNS, duration, note, status_lines, status_text
from experiments.monitor.text_columns import table
from experiments.store.ledger import Ledger
from results.reading.run_folder import State

log = logging.getLogger(__name__)

FORMATS = ("terminal", "md", "json")
REFRESH_SECONDS = 2.0
#: Looking at very many runs takes its time: at most this share of it goes into looking.
LOOKING_SHARE = 0.1
#: Without a terminal a run's line is printed on a change of state, and every so many epochs.
PLAIN_EPOCHS = 5


class Display:
    """Draws the state of runs from their files until closed; use as a context manager.

    `run_ids`: these runs; None for every run there is at the moment, of `protocol` if given.
    `states`: only runs in one of them.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_ids: Sequence[str] | None,
        console: Console,
        *,
        protocol: str | None = None,
        states: Collection[State] | None = None,
    ) -> None:
        self.ledger, self.run_ids, self.console = ledger, run_ids, console
        self.protocol, self.states = protocol, states
        self._stop = threading.Event()
        self._said: dict[str, tuple[State, int]] = {}
        self._trouble = ""
        self._pause = REFRESH_SECONDS
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._draw, daemon=True, name="display")

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self) -> None:
        """Until what keeps it from going on, which is raised."""
        # Not a join: one that is interrupted takes the thread for stopped (Python 3.11).
        self._ended.wait()
        if self._error is not None:
            raise self._error

    def _draw(self) -> None:
        try:
            self._live() if self.console.is_terminal else self._plain()
        except Exception as error:
            # The runs go on without; who only looks at them is told, in `wait`.
            self._error = error
            log.warning("the runs are not shown any more", exc_info=error)
        finally:
            self._ended.set()

    def _live(self) -> None:
        with Live(console=self.console, auto_refresh=False) as live:
            last = False
            while True:
                rows = self._look()
                size = self.console.size
                text = status_text(rows or [], size.width, size.height)
                if self._trouble:
                    text = Text(self._trouble, "red") if rows is None else text
                live.update(text, refresh=True)
                if last:
                    return
                last = self._stop.wait(self._pause)

    def _plain(self) -> None:
        last = False
        while not last:
            last = self._stop.wait(self._pause)
            for status in self._look() or []:
                self._say(status)

    def _look(self) -> list[RunStatus] | None:
        """The runs as they stand; None, and why, while a store is out of reach."""
        begin = time.monotonic()
        try:
            rows = only(statuses(self.ledger, self.run_ids, self.protocol), self.states)
        except (StorageError, OSError) as error:
            if not self.console.is_terminal and not self._trouble:
                self.console.print(str(error), soft_wrap=True, highlight=False, markup=False)
            self._trouble = str(error)
            return None
        finally:
            took = time.monotonic() - begin
            self._pause = max(REFRESH_SECONDS, took / LOOKING_SHARE)
        self._trouble = ""
        return rows

    def _say(self, status: RunStatus) -> None:
        now = (status.state, (status.epoch or 0) // PLAIN_EPOCHS)
        if now != self._said.get(status.run_id, (State.PLANNED, 0)):
            self.console.print(status_line(status), soft_wrap=True, highlight=False, markup=False)
        self._said[status.run_id] = now


def print_rows(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], format: str, left: int = 2
) -> None:
    """Print a table as text, markdown or JSON (a list of objects).

    `left`: columns that stand at the left. Text is as wide as it needs to be: nothing is cut.
    """
    if format == "json":
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    elif format == "md":
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    else:
        print("\n".join([*([title] if title else []), *table(head, rows, left)]))


def print_json(rows: Sequence[dict[str, object]]) -> None:
    """A JSON list, one object a line: to be read by programs, and by people with `grep`."""
    lines = ",\n ".join(json.dumps(row) for row in rows)
    print(f"[{lines}]")


def print_statuses(rows: Sequence[RunStatus], console: Console, format: str) -> None:
    """Print `rows` as a table, markdown or JSON; a terminal's table has what fits its width."""
    if format == "json":
        print_json([row.as_json() for row in rows])
    elif format == "md":
        head = ["run", *(column.head for column in COLUMNS), "note"]
        cells = [
            [row.run_id, *(column.cell(row) for column in COLUMNS), _cell(note(row))]
            for row in rows
        ]
        print_rows("", head, cells, format)
    elif console.is_terminal:
        console.print(status_text(rows, console.width))
    else:
        print("\n".join(line.text for line in status_lines(rows)))


def _cell(text: str) -> str:
    """`text` as it can stand in a markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def status_line(row: RunStatus) -> str:
    """A run as a line of text."""
    parts = [f"{row.run_id}: {row.state}"]
    if row.epochs is not None:
        parts.append(f"epoch {row.epoch or 0}/{row.epochs}")
    if row.loss is not None:
        parts.append(f"loss {row.loss:.3f}")
    if row.top1 is not None:
        parts.append(f"val top-1 {row.top1:.1f} %")
    if row.clips_per_second:
        parts.append(f"{row.clips_per_second:.1f} clips/s")
    if row.seconds_left is not None:
        parts.append(f"{duration(row.seconds_left)} left")
    if note(row):
        parts.append(note(row).splitlines()[0])
    return ", ".join(parts)
