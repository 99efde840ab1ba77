"""What `tcclip status` does. It is called often, so it imports neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from experiments.errors import UserError
from experiments.monitor.display import Display
from experiments.monitor.status import RunStatus, statuses
from experiments.store.ledger import Ledger
from protocols import PROTOCOLS
from results.reading.location import Location, names
from results.reading.run_folder import State


def check_runs(out: Location) -> None:
    """UserError unless `out` is the folder of a sweep."""
    if "runs" not in names(out):
        raise UserError(f"{out} holds no runs; give the folder of a sweep with --out")


def _check_protocol(name: str | None) -> None:
    if name is not None and name not in PROTOCOLS:
        raise UserError(f"--protocol {name!r}; known: {', '.join(PROTOCOLS)}")


def status(
    out: Location, protocol: str | None = None, states: Collection[State] | None = None
) -> list[RunStatus]:
    """The runs under `out`, of a protocol and in one of `states` if these are given."""
    _check_protocol(protocol)
    check_runs(out)
    return statuses(Ledger(out), protocol=protocol, states=states)


def states_named(text: str | None) -> frozenset[State] | None:
    """`"running,failed"` as states; UserError naming the ones there are."""
    if text is None:
        return None
    named = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in named if name not in set(State)]
    if unknown or not named:
        raise UserError(f"--state {text!r}; known: {', '.join(State)}")
    return frozenset(State(name) for name in named)


def watch_status(
    out: Location, console: Console, protocol: str | None, states: Collection[State] | None
) -> None:
    """Show the runs of `out` as they change, until interrupted with Ctrl-C.

    There may be none yet; UserError if the folder is not there.
    """
    _check_protocol(protocol)
    if isinstance(out, Path) and not out.is_dir():
        raise UserError(f"{out} is not there; give the folder of a sweep with --out")
    with suppress(KeyboardInterrupt):
        Display(Ledger(out), None, console, protocol=protocol, states=states).run()
