"""The runs as they change: a table redrawn on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from experiments.errors import StorageError
from experiments.monitor.status import RunStatus, statuses
from experiments.monitor.status_table import duration, status_note, status_text
from experiments.store.ledger import Ledger
from results.reading.run_folder import State

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
#: Reading the files of very many runs takes seconds: at most this share of the time goes into it.
READING_SHARE = 0.1
#: Without a terminal a run's line is printed when its state changes, and every so many epochs.
EPOCHS_PER_LINE = 5


class Display:
    """Shows the state of runs from their files: `run` until interrupted, or beside the code in a
    `with` block.

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
        self._printed: dict[str, tuple[State, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_in_thread, daemon=True, name="display")

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def run(self) -> None:
        """Show the runs until the `with` block ends, and as they are then."""
        if not self.console.is_terminal:
            self._repeat(self._print_changes, self._print)
            return
        with Live(console=self.console, auto_refresh=False) as live:
            self._repeat(
                lambda rows: live.update(status_text(rows, *self.console.size), refresh=True),
                lambda error: live.update(Text(error, "red"), refresh=True),
            )

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except Exception as error:  # the sweep goes on
            log.warning("the runs are not shown any more", exc_info=error)

    def _repeat(
        self, show: Callable[[Sequence[RunStatus]], None], show_error: Callable[[str], None]
    ) -> None:
        failing = False
        # Lines begin after a pause, when runs that are computed again have begun.
        last = not self.console.is_terminal and self._stop.wait(REFRESH_SECONDS)
        while True:
            begin = time.monotonic()
            try:
                rows = statuses(self.ledger, self.run_ids, self.protocol, self.states)
            except (StorageError, OSError) as error:  # a store is out of reach
                if not failing:
                    show_error(str(error))
                failing = True
            else:
                show(rows)
                failing = False
            if last:
                return
            pause = max(REFRESH_SECONDS, (time.monotonic() - begin) / READING_SHARE)
            last = self._stop.wait(pause)

    def _print_changes(self, rows: Sequence[RunStatus]) -> None:
        for row in rows:
            now = (row.state, (row.epoch or 0) // EPOCHS_PER_LINE)
            if now != self._printed.get(row.run_id, (State.PLANNED, 0)):
                self._print(status_line(row))
            self._printed[row.run_id] = now

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)


def status_line(row: RunStatus) -> str:
    """A run as one line of text."""
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
    if note := status_note(row):
        parts.append(note.splitlines()[0])
    return ", ".join(parts)
