"""What `tcclip ui` does, and what a sweep shows of MLflow."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from experiments.errors import UserError
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger, check_runs
from experiments.tracking.connection import (
    ARTIFACTS,
    LOCAL_UI,
    default_uri,
    home,
    redact_url,
    sqlite_file,
    sync_command,
)
from experiments.tracking.first_view import keep_views
from experiments.tracking.mirror import Incomplete, Mirror
from experiments.tracking.mlflow_runs import OUTPUT_FILE
from results.reading.location import Location, exists

#: A server for one user's runs: none of the processes for MLflow's jobs, which judge the output of
#: language models.
NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_WEB = ("http://", "https://")
Keep = Callable[[Callable[[Path], object]], None]


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(f"MLflow: {text}", style=style, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _errors_shown(console: Console) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001
        # The tracker may be down in any way; the report is printed all the same.
        _print(console, redact_url(str(error)), "yellow")


@contextmanager
def keeping_report(
    out: Location, specs: Sequence[RunSpec], console: Console, ask: bool | None
) -> Iterator[tuple[Keep, dict[str, str]]]:
    """What keeps a report's files with the sweep's parent run in MLflow, and the runs' pages.

    The first is called with what writes the files into a folder; the pages are run_id -> URL. At
    the end it is said where MLflow shows them. A tracker that is down costs both, and so does a
    full disk the files. Without `ask` there are neither; None: nor is it said, since it failed.
    """
    uri, links = default_uri(out), dict[str, str]()
    if ask:
        with _errors_shown(console):
            mirror = Mirror(Ledger(out), uri)
            links = mirror.links(specs)

    def keep(write: Callable[[Path], object]) -> None:
        if links:
            with _errors_shown(console), tempfile.TemporaryDirectory() as name:
                write(Path(name))
                mirror.report(specs[-1], Path(name))

    yield keep, links
    if ask is not None:
        command = shlex.join(["tcclip", "ui", "--out", str(out)])
        web = uri.startswith(_WEB)
        _print(console, redact_url(uri) if web else f"{command}  ->  {LOCAL_UI}")


def sync(out: Location, rebuild: bool = False) -> tuple[int, int]:
    """Copy every run under `out` to MLflow: how many have begun, and how many have not.

    `rebuild`: delete the copies first. UserError if there are no runs, if the tracker cannot be
    written, or if some runs cannot be copied; all others are then.
    """
    if not exists(out / OUTPUT_FILE):  # without any run left, their copies are deleted
        check_runs(out)
    ledger, uri = Ledger(out), default_uri(out)
    run_ids = [folder.run_id for folder in ledger.folders()]
    try:
        if rebuild:
            _delete_copies(ledger, uri)
        mirror = Mirror(ledger, uri)
        mirror.sync(run_ids, last=True)
    except Incomplete as error:
        raise UserError(
            f"MLflow lacks some runs, or a part of them; all others are there:\n{error}"
        ) from error
    except Exception as error:
        # A tracker may be down in any way; the same command again copies what is left.
        raise UserError(
            f"MLflow at {redact_url(uri)} cannot be written ({type(error).__name__}: "
            f"{redact_url(str(error))}); see `tcclip doctor`, and try again: {sync_command(out)}, "
            "with --rebuild if its database is damaged"
        ) from error
    copied = len(mirror.copies)
    return copied, len(run_ids) - copied


def _delete_copies(ledger: Ledger, uri: str) -> None:
    """Delete what MLflow has of a ledger's runs; all of a database in the output folder."""
    database, folder = sqlite_file(uri), home(ledger.out)
    if database is None or database.parent != folder:
        runs = Mirror(ledger, uri).runs
        for run in runs.search():
            runs.delete(run)
        return
    for name in (f"{database.name}-journal", database.name):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / ARTIFACTS, ignore_errors=True)


def serve_ui(out: Location, *, host: str, port: int) -> int:
    """Serve MLflow's UI on the runs of `out` until interrupted; its exit status."""
    uri = default_uri(out)
    if uri.startswith(_WEB):
        raise UserError(
            f"the runs are in the MLflow server at {redact_url(uri)}, which has its own UI: open "
            f"that address (and `{sync_command(out)}` copies what it lacks)"
        )
    database = sqlite_file(uri)
    if database is not None and not database.exists():
        raise UserError(
            f"MLflow's view of {out} is not there yet ({database}); run a sweep, or "
            f"`{sync_command(out)}`"
        )
    # MLflow would name a port that is taken only in its log, after ten seconds.
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise UserError(
            f"nothing can listen on port {port} of {host} ({why}); choose another with --port, or "
            "another address with --host"
        ) from error
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    with _errors_shown(Console(stderr=True)):  # the server says more of a database it cannot use
        mirror = Mirror(Ledger(out), uri)
        for name, number, place in keep_views(mirror.client, mirror.runs.all()):
            print(f"{name}, {number} runs compared: {address}/{place}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--workers", "1"]
    home(out).mkdir(parents=True, exist_ok=True)
    # Not the user's folder: `-m` would put it on the import path.
    return subprocess.call(
        [*command, "--host", host, "--port", str(port)], cwd=home(out), env=os.environ | NO_JOBS
    )
