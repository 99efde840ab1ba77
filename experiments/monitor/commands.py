"""What `tcclip status` does. It is called often, so it imports neither torch nor Ray."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rich.console import Console

from experiments.errors import UserError
from experiments.monitor.display import Display
from experiments.monitor.status import statuses
from experiments.monitor.status_table import print_statuses
from experiments.store.ledger import Ledger, check_runs
from protocols import PROTOCOLS
from results.reading.location import Location
from results.reading.run_folder import State


def status(
    out: Location, protocol: str | None, state: str | None, watch: bool, format: str
) -> None:
    """Print the runs under `out`; with `watch`, show them as they change until Ctrl-C.

    `protocol` and `state` ("running,failed") choose among them.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"--protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    states = states_named(state)
    console = Console()
    if not watch:
        check_runs(out)
        rows = statuses(Ledger(out), protocol=protocol, states=states)
        print_statuses(rows, console, format)
        return
    if format != "terminal":
        raise UserError("--watch redraws a terminal; leave --format out")
    if isinstance(out, Path) and not out.is_dir():
        raise UserError(f"{out} is not there; give the folder of a sweep with --out")
    with suppress(KeyboardInterrupt):
        Display(Ledger(out), None, console, protocol=protocol, states=states).run()


def states_named(text: str | None) -> frozenset[State] | None:
    """The states in a comma list such as "running,failed"; None for no list."""
    if text is None:
        return None
    named = {part.strip() for part in text.split(",") if part.strip()}
    if not named or not named <= set(State):
        raise UserError(f"--state {text!r}; known: {', '.join(State)}")
    return frozenset(State(name) for name in named)
