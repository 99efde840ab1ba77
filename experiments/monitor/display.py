"""`tcclip status`, and the runs as they change: a table redrawn on a terminal, else a line for each
change."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from experiments.errors import StorageError, UserError
from experiments.monitor.status_table import (
    chosen_states,
    duration,
    print_statuses,
    status_note,
    status_text,
)
from experiments.store.ledger import Ledger, check_runs
from protocols import PROTOCOLS
from results.printing import reader_gone
from results.reading.location import Location, folder_names
from results.reading.run_filter import EVERY_RUN, RunFilter
from results.reading.run_folder import State
from results.reading.status import RunStatus, run_status

REFRESH_SECONDS = 2.0
#: Reading the files of very many runs takes seconds: at most this share of the time goes into it.
READING_SHARE = 0.1
#: Without a terminal a run's line is printed when its state changes, and every so many epochs.
EPOCHS_PER_LINE = 5


def statuses(
    ledger: Ledger,
    run_ids: Sequence[str] | None = None,
    protocol: str | None = None,
    states: Collection[str] | None = None,
    meant: RunFilter = EVERY_RUN,
) -> list[RunStatus]:
    """Status of the runs named, else of every run there is: of `protocol`, `meant` and in one of
    `states`, where these are given."""
    folders = ledger.folders() if run_ids is None else [ledger.folder(one) for one in run_ids]
    if protocol is not None:
        folders = [one for one in folders if one.run_id.partition("-")[0] == protocol]
    chosen = ledger.for_each(meant, folders)
    folders = [folder for folder, one in zip(folders, chosen, strict=True) if one]
    rows = ledger.for_each(run_status, folders)
    return [row for row in rows if not states or row.state in states]


class Display:
    """Shows what `read` says of runs: `run` until interrupted, or beside the code in a `with`
    block."""

    def __init__(
        self, read: Callable[[], Sequence[RunStatus]], console: Console, *, watched: bool = False
    ) -> None:
        """`watched`: it is shown for its own sake, so it ends when nobody reads it any more."""
        self._read, self.console, self._watched = read, console, watched
        self._printed: dict[str, tuple[State, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True, name="display")

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def run(self) -> None:
        """Show the runs until the `with` block ends, and as they are then."""
        if self.console.is_terminal:
            with Live(console=self.console, auto_refresh=False) as live:
                self._repeat(live)
        else:
            # Lines begin after a pause, when runs that are computed again have begun.
            self._repeat(None, last=self._stop.wait(REFRESH_SECONDS))

    def _repeat(self, live: Live | None, last: bool = False) -> None:
        failing = False
        while True:
            begin = time.monotonic()
            try:
                rows = self._read()
            except (StorageError, OSError) as error:  # a store is out of reach
                if not failing:
                    self._show(live, Text(str(error), "red"))
                failing = True
            else:
                if live is None:
                    self._print_changes(rows)
                else:
                    self._show(live, status_text(rows, *self.console.size))
                failing = False
            if last or (self._watched and reader_gone()):
                return
            pause = max(REFRESH_SECONDS, (time.monotonic() - begin) / READING_SHARE)
            last = self._stop.wait(pause)

    def _print_changes(self, rows: Sequence[RunStatus]) -> None:
        for row in rows:
            now = (row.state, (row.epoch or 0) // EPOCHS_PER_LINE)
            if now != self._printed.get(row.run_id, (State.PLANNED, 0)):
                self._show(None, Text(status_line(row)))
            self._printed[row.run_id] = now

    def _show(self, live: Live | None, text: Text) -> None:
        if live is not None:
            live.update(text, refresh=True)
        else:
            self.console.print(text.plain, soft_wrap=True, highlight=False, markup=False)


def status_line(row: RunStatus) -> str:
    """A run as one line of text."""
    name = "" if row.name is None else f" ({row.name})"
    parts = [f"{row.run_id}{name}: {row.state}"]
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


def status(
    out: Location,
    protocol: str | None,
    state: str | None,
    watch: bool,
    format: str,
    meant: RunFilter = EVERY_RUN,
) -> None:
    """What `tcclip status` does: print the runs under `out`; with `watch`, show them as they change
    until Ctrl-C.

    `protocol`, `state` ("running,failed") and `meant` choose among them.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"--protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    states = chosen_states(state)
    console = Console()

    def read() -> list[RunStatus]:
        return statuses(Ledger(out), protocol=protocol, states=states, meant=meant)

    if not watch:
        check_runs(out)
        rows, notes = read(), list(meant.unmatched(folder_names(out / "runs")))
        print_statuses(rows, console, format)
        notes += [] if rows or notes or meant.name is None else [f"none has --name {meant.name}"]
        for text in notes:
            print(text, file=sys.stderr)
        return
    if format != "terminal":
        raise UserError("--watch redraws a terminal; leave --format out")
    if isinstance(out, Path) and not out.is_dir():
        raise UserError(f"{out} is not there; give the folder of a sweep with --out")
    with suppress(KeyboardInterrupt):
        Display(read, console, watched=True).run()
