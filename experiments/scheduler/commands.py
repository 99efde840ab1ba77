"""What the CLI's commands on runs do, one function a command; each returns what to show or exit."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import repeat
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from experiments.datasets.paths import DataPaths
from experiments.errors import StorageError, UserError, user_errors
from experiments.grid.spec import RunSpec
from experiments.monitor.commands import check_runs
from experiments.monitor.display import FORMATS as FORMATS
from experiments.monitor.display import Display
from experiments.scheduler.executor import EXECUTORS, Executor, check_address, make_executor
from experiments.scheduler.loop import Policy
from experiments.scheduler.sweep import Summary
from experiments.scheduler.sweep import sweep as run_sweep
from experiments.store.files import remove
from experiments.store.ledger import Ledger, matching
from experiments.store.shell_command import shown, sync_command
from experiments.worker.job import Job
from results.reading.holder import PATIENCE
from results.reading.location import Location, is_local, names
from results.reading.run_folder import ENDED, State
from tcclip.config import Execution

T = TypeVar("T")

#: So many runs with a fault are named.
NAMED = 10
_WEB = ("http://", "https://")


def sweep(
    specs: Sequence[RunSpec],
    *,
    out: Location,
    data_paths: DataPaths,
    execution: Execution,
    executor: str,
    address: str | None,
    max_concurrent: int | None,
    rerun: str | None,
    console: Console,
    files: Mapping[str, Path] | None = None,
    asha: bool = False,
    policy: Policy | None = None,
) -> Summary:
    """Compute what is missing of `specs`, shown on `console` and mirrored to MLflow.

    `files`: sha256 -> file of the weights that `specs` name by their content. `asha`: let ASHA
    stop the trials of a search that fall behind. `policy`: what failures lead to.
    """
    ledger = Ledger(out)

    def start() -> Executor:
        return make_executor(
            executor,
            workers=execution.workers,
            device=execution.device,
            max_concurrent=max_concurrent,
            address=address,
            asha=asha,
        )

    def job(spec: RunSpec) -> Job:
        given = dict(files or {})
        return Job(spec=spec, out=out, data_paths=data_paths, execution=execution, files=given)

    def say(text: str) -> None:
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    make: Callable[[], Executor] = start
    with ExitStack() as stack:
        states = {} if rerun is None else ledger.states(specs)
        again = [] if rerun is None else matching(states, rerun)
        if again:
            started = stack.enter_context(closing(start()))
            make = repeat(started).__next__
            say(f"looking whether {len(again)} runs could begin again")
            jobs = [job(spec) for spec in specs if spec.run_id in again]
            for line in _forget(ledger, started, jobs, states):
                console.print(line, highlight=False, soft_wrap=True)
        left = _to_do(ledger, specs, asha)
        console.print(f"{len(specs)} runs, {left} to do, in {out}", highlight=False)
        if left:
            # Outside of the sweep: when it ends, the executor has stopped its workers.
            stack.enter_context(_mirrored(ledger, specs, console))
        return run_sweep(
            specs,
            out=out,
            data_paths=data_paths,
            execution=execution,
            make_executor=make,
            files=files,
            watch=lambda ledger: Display(ledger, [spec.run_id for spec in specs], console),
            policy=policy,
            say=say,
        )


def _forget(
    ledger: Ledger, executor: Executor, jobs: Sequence[Job], states: Mapping[str, State]
) -> list[str]:
    """Delete what there is of the runs of `jobs`: a line on each. UserError if one of them could
    not begin again, and then nothing is deleted."""
    found = executor.faults(jobs)
    if found:
        named = [f"  {run_id}: {why}" for run_id, why in list(found.items())[:NAMED]]
        more = [f"  and {len(found) - NAMED} more"] if len(found) > NAMED else []
        raise UserError(
            f"--rerun: nothing was deleted, since {len(found)} of {len(jobs)} runs could not begin "
            "again; see to it, or name other runs (failed ones are tried again without --rerun, "
            "too)\n" + "\n".join(named + more)
        )
    run_ids = [job.spec.run_id for job in jobs]
    # Another sweep may finish a failed run while this one looks.
    unfinished = [run_id for run_id in run_ids if states[run_id] is not State.FINISHED]
    kept = ledger.forget(run_ids, unfinished)
    return [
        f"{run_id}: {'finished meanwhile, and kept' if run_id in kept else 'forgotten'}"
        for run_id in run_ids
    ]


def _to_do(ledger: Ledger, specs: Sequence[RunSpec], asha: bool) -> int:
    """How many of `specs` are to be computed; but for a search, also what one gave up before."""
    states = ledger.states(specs)
    for run_id, state in states.items():
        if state is State.STOPPED and not asha:
            remove(ledger.folder(run_id).stopped)
            states[run_id] = State.STALE
    return sum(state not in ENDED for state in states.values())


def check(
    specs: Sequence[RunSpec], execution: Execution, executor: str, address: str | None
) -> None:
    """Before anything is written: UserError if `specs` cannot be computed like this.

    Micro-batch x workers x accumulation has to make the global batch, and a Ray cluster that is
    named has to answer: Ray itself would wait for it for minutes.
    """
    if executor not in EXECUTORS:
        raise UserError(f"--executor {executor!r}; allowed: {', '.join(EXECUTORS)}")
    with user_errors():
        for spec in specs:
            if spec.train.epochs:
                execution.chunk(spec.train)
    if executor == "ray" and address is not None:
        check_address(address)


@contextmanager
def _mirrored(ledger: Ledger, specs: Sequence[RunSpec], console: Console) -> Iterator[None]:
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
    from experiments.tracking.connection import hidden

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
            f"MLflow at {hidden(uri)} cannot be written ({type(error).__name__}: "
            f"{hidden(str(error))}); see `tcclip doctor`, and try again: {sync_command(out)}"
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
    from experiments.tracking.connection import hidden, within
    from experiments.tracking.sync_thread import END_SECONDS

    uri = default_uri(out)

    def ask(action: Callable[[], T], otherwise: T) -> T:
        try:
            return within(END_SECONDS, action)
        except Exception as error:  # noqa: BLE001
            # The tracker may be down in any way; the report is printed all the same.
            told = f"MLflow: {hidden(str(error))}"
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
    from experiments.tracking.connection import hidden

    uri = default_uri(out)
    if uri in _given_up:
        return None
    if uri.startswith(_WEB):
        return f"MLflow: {hidden(uri)}"
    return f"MLflow: {shown(['ui'], out)}  ->  {LOCAL_UI}"


def serve_ui(out: Location, *, host: str, port: int) -> int:
    """Serve MLflow's UI on the runs of `out` until interrupted; its exit status."""
    from experiments.tracking import database_of, default_uri, home
    from experiments.tracking.connection import hidden

    uri, folder = default_uri(out), home(out)
    if uri.startswith(_WEB):
        raise UserError(
            f"the runs are in the MLflow server at {hidden(uri)}, which has its own UI: open that "
            f"address (and `{sync_command(out)}` copies what it lacks)"
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
