"""What a running sweep shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from experiments.ledger import Ledger, State
from experiments.status import RunStatus, statuses

REFRESH_SECONDS = 2.0
#: Without a terminal a run's line is printed on a change of state, and every so many epochs.
PLAIN_EPOCHS = 5
_STYLE = {
    State.FINISHED: "green",
    State.FAILED: "red",
    State.STOPPED: "blue",
    State.RUNNING: "cyan",
    State.STALE: "yellow",
    State.PLANNED: "dim",
}


class Display:
    """Draws the state of `run_ids` from their files until closed; use as a context manager."""

    def __init__(self, ledger: Ledger, run_ids: Sequence[str], console: Console) -> None:
        self.ledger, self.run_ids, self.console = ledger, run_ids, console
        self._stop = threading.Event()
        self._said: dict[str, tuple[State, int]] = {}
        target = self._live if console.is_terminal else self._plain
        self._thread = threading.Thread(target=target, daemon=True, name="display")

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _live(self) -> None:
        with Live(console=self.console, refresh_per_second=1) as live:
            while True:
                live.update(status_table(statuses(self.ledger, self.run_ids)))
                if self._stop.wait(REFRESH_SECONDS):
                    live.update(status_table(statuses(self.ledger, self.run_ids)))
                    return

    def _plain(self) -> None:
        last = False
        while not last:
            last = self._stop.wait(REFRESH_SECONDS)
            for status in statuses(self.ledger, self.run_ids):
                self._say(status)

    def _say(self, status: RunStatus) -> None:
        now = (status.state, (status.epoch or 0) // PLAIN_EPOCHS)
        if now != self._said.get(status.run_id, (State.PLANNED, 0)):
            self.console.print(status_line(status), soft_wrap=True, highlight=False)
        self._said[status.run_id] = now


def status_table(rows: Sequence[RunStatus]) -> Table:
    """One row a run: state, epoch, loss, validation top-1, time left, last error."""
    title = count_states([row.state for row in rows])
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("state")
    for name in ("epoch", "loss", "val %", "left"):
        table.add_column(name, justify="right")
    if any(row.error for row in rows):
        table.add_column("last error", max_width=60)
    for row in rows:
        cells = [row.run_id.partition("-")[2], f"[{_STYLE[row.state]}]{row.state}[/]", *_cells(row)]
        table.add_row(*cells, *([row.error] if row.error else []))
    return table


def print_rows(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], format: str, left: int = 2
) -> None:
    """Print a table as text, markdown or JSON (a list of objects).

    `left`: columns that stand at the left. Text is as wide as it needs to be: nothing is cut.
    """
    if format == "json":
        print(json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=1))
    elif format == "md":
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    else:
        table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
        for number, name in enumerate(head):
            table.add_column(name, no_wrap=True, justify="left" if number < left else "right")
        for row in rows:
            table.add_row(*row)
        needed = Console(width=10_000).measure(table).maximum
        Console(width=max(needed, len(title))).print(table)


def status_line(row: RunStatus) -> str:
    """The same as a line of text."""
    epoch, loss, top1, left = _cells(row)
    parts = [f"{row.run_id}: {row.state}"]
    if row.epoch is not None:
        parts.append(f"epoch {epoch}, loss {loss}, val top-1 {top1} %")
    if left != "–":
        parts.append(f"{left} left")
    if row.error:
        parts.append(row.error.splitlines()[0])
    return ", ".join(parts)


def _cells(row: RunStatus) -> tuple[str, str, str, str]:
    return (
        "–" if row.epoch is None else f"{row.epoch}/{row.epochs}",
        "–" if row.loss is None else f"{row.loss:.3f}",
        "–" if row.top1 is None else f"{row.top1:.1f}",
        "–" if row.seconds_left is None else duration(row.seconds_left),
    )


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count_states(states: Sequence[State]) -> str:
    """`6 runs: 4 finished, 1 running, 1 failed`; states without a run are left out."""
    counts = [(state, sum(one is state for one in states)) for state in reversed(State)]
    return f"{len(states)} runs: " + ", ".join(f"{n} {state}" for state, n in counts if n)
