"""What `tcclip ui` does, and what a sweep shows of MLflow."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from experiments.errors import StorageError, UserError
from experiments.grid.spec import RunSpec
from experiments.monitor.commands import check_runs
from experiments.store.ledger import Ledger
from experiments.tracking.connection import redact_url, sync_command, ui_command, within
from results.reading.holder import PATIENCE
from results.reading.location import Location, is_local, names

T = TypeVar("T")

_WEB = ("http://", "https://")


@contextmanager
def mirrored(ledger: Ledger, specs: Sequence[RunSpec], console: Console) -> Iterator[None]:
    from experiments.tracking import default_uri
    from experiments.tracking.sync_thread import Follower

    def warn(text: str) -> None:
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    with Follower(ledger, default_uri(ledger.out), specs, warn) as follower:
        yield
    if follower.gave_up:
        _given_up.add(follower.uri)


def _all_specs(ledger: Ledger) -> tuple[list[RunSpec], dict[str, str]]:
    """The runs there are; and, by run id, why the spec of another one cannot be read."""
    specs, faults = [], {}
    remedy = "the sweep that made the run writes it anew" if is_local(ledger.out) else "restore it"
    for folder in ledger.folders():
        try:
            specs.append(ledger.spec(folder.run_id))
        except FileNotFoundError:
            if names(folder.path):  # else somebody deletes it, or is about to write it
                faults[folder.run_id] = f"it is missing; {remedy}"
        except StorageError as error:
            faults[folder.run_id] = str(error)
        except (ValueError, LookupError, TypeError) as error:
            first = str(error).splitlines()[0]
            told = f"it cannot be understood: {type(error).__name__}: {first}"
            faults[folder.run_id] = f"{told}; {remedy}"
    return specs, faults


def sync(out: Location) -> tuple[int, int]:
    """Copy every run that has begun under `out` into MLflow: how many these are, and the others.

    UserError if there are none, or the tracker cannot be written.
    """
    from experiments.tracking import Incomplete, Mirror, StillCopying, default_uri

    check_runs(out)
    ledger, uri = Ledger(out), default_uri(out)
    specs, unknown = _all_specs(ledger)
    faults = [f"spec.json of {run_id}: {why}" for run_id, why in unknown.items()]
    try:
        mirror = Mirror(ledger, uri)
        actions: tuple[Callable[[], None], ...] = (
            lambda: mirror.sync(specs, wait=2 * PATIENCE),
            mirror.settle,
        )
        for action in actions:
            try:
                action()
            except (Incomplete, StillCopying) as error:
                faults.append(str(error))
    except Exception as error:
        # A tracker may be down in any way; the same command again copies what is left.
        raise UserError(
            f"MLflow at {redact_url(uri)} cannot be written ({type(error).__name__}: "
            f"{redact_url(str(error))}); see `tcclip doctor`, and try again: {sync_command(out)}"
        ) from error
    if faults:
        listed = "\n".join(dict.fromkeys(faults))
        raise UserError(f"some runs are not in MLflow, or not whole; all others are\n{listed}")
    return mirror.copied, len(specs) - mirror.copied


#: Trackers that kept a sweep's end waiting, and are not waited for again.
_given_up: set[str] = set()


@contextmanager
def keeping_report(
    out: Location, specs: Sequence[RunSpec], console: Console
) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder to write a report's files to, kept with the sweep's parent run in MLflow.

    Gives the folder and the runs' pages (run_id -> address). A tracker that is down costs both.
    """
    from experiments.tracking import Mirror, default_uri
    from experiments.tracking.sync_thread import END_SECONDS

    uri = default_uri(out)

    def ask(action: Callable[[], T], otherwise: T) -> T:
        try:
            return within(END_SECONDS, action)
        except Exception as error:  # noqa: BLE001
            # The tracker may be down in any way; the report is printed all the same.
            told = f"MLflow: {redact_url(str(error))}"
            console.print(told, style="yellow", highlight=False, soft_wrap=True, markup=False)
            return otherwise

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if uri in _given_up:  # said already
            yield folder, {}
            return
        mirror = ask(lambda: Mirror(Ledger(out), uri), None)
        links: dict[str, str] = {}
        if mirror is not None:
            links = ask(lambda: mirror.links(specs), links)
        yield folder, links
        if mirror is not None and links:
            ask(lambda: mirror.report(specs[-1], folder), None)


def where_to_look(out: Location) -> str | None:
    """A line on where MLflow shows the runs of `out`; None if it could not be written."""
    from experiments.tracking import LOCAL_UI, default_uri

    uri = default_uri(out)
    if uri in _given_up:
        return None
    if uri.startswith(_WEB):
        return f"MLflow: {redact_url(uri)}"
    return f"MLflow: {ui_command(out)}  ->  {LOCAL_UI}"


def serve_ui(out: Location, *, host: str, port: int) -> int:
    """Serve MLflow's UI on the runs of `out` until interrupted; its exit status."""
    from experiments.tracking import database_of, default_uri, home

    uri, folder = default_uri(out), home(out)
    if uri.startswith(_WEB):
        raise UserError(
            f"the runs are in the MLflow server at {redact_url(uri)}, which has its own UI: open "
            f"that address (and `{sync_command(out)}` copies what it lacks)"
        )
    database = database_of(uri)
    if database is not None and not database.path.exists():
        raise UserError(
            f"MLflow's view of {out} is not there yet ({database.path}); run a sweep, or "
            f"`{sync_command(out)}`"
        )
    if database is not None and os.access(database.path, os.W_OK):  # else it is only looked at
        try:
            database.arrive()
        except sqlite3.Error as error:
            raise UserError(
                f"{database.path} cannot be used ({error}): see `tcclip doctor`, or move it away "
                f"and rebuild it: {sync_command(out)}"
            ) from error
    _check_free(host, port)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    if not is_local(out):
        folder.mkdir(parents=True, exist_ok=True)
    # Not the user's folder: `-m` would put it on the import path.
    return subprocess.call([*command, "--host", host, "--port", str(port)], cwd=folder)


def _check_free(host: str, port: int) -> None:
    """UserError unless a server may listen there: MLflow's would end without a clear word."""
    try:
        with socket.create_server((host, port), family=_family(host)):
            return
    except OSError as error:
        raise UserError(
            f"nothing can listen on port {port} of {host} ({_plain(error)}); choose "
            "another with --port, or another address with --host"
        ) from error


def _plain(error: OSError) -> str:
    return str(error) if error.errno is None or error.errno < 0 else os.strerror(error.errno)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
