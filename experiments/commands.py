"""What the CLI's commands on runs do, one function a command; each returns what to show or exit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from experiments.display import FORMATS as FORMATS
from experiments.display import Display
from experiments.errors import UserError
from experiments.executor import Executor, make_executor
from experiments.files import Location, exists, is_local, remove
from experiments.ledger import Ledger
from experiments.loop import Policy
from experiments.roots import Roots
from experiments.spec import RunSpec
from experiments.sweep import Summary, forget, outstanding
from experiments.sweep import sweep as run_sweep
from tcclip.config import Execution


def sweep(
    specs: Sequence[RunSpec],
    *,
    out: Location,
    roots: Roots,
    execution: Execution,
    executor: str,
    address: str | None,
    max_concurrent: int | None,
    rerun: str | None,
    console: Console,
    checkpoint: Path | None = None,
    halving: bool = False,
    policy: Policy | None = None,
) -> Summary:
    """Compute what is missing of `specs`, shown on `console` and mirrored to MLflow.

    `checkpoint`: the file that runs with a `RunSpec.checkpoint` start from. `halving`: let ASHA
    stop the trials of a search that fall behind. `policy`: what failures lead to.
    """
    for spec in specs:
        check_batch(spec, execution)
    ledger = Ledger(out)
    if rerun is not None:
        for run_id in forget(ledger, specs, rerun):
            console.print(f"{run_id}: forgotten, to be run again", highlight=False)
    if not halving:  # what a search gave up is wanted now
        for spec in specs:
            remove(ledger.folder(spec.run_id).stopped)
    left = len(outstanding(ledger, specs))
    console.print(f"{len(specs)} runs, {left} to do, in {out}", highlight=False)

    def start() -> Executor:
        return make_executor(
            executor,
            workers=execution.workers,
            device=execution.device,
            max_concurrent=max_concurrent,
            address=address,
            halving=halving,
        )

    return run_sweep(
        specs,
        out=out,
        roots=roots,
        execution=execution,
        make_executor=start,
        checkpoint=checkpoint,
        watch=lambda ledger: _watch(ledger, specs, console),
        policy=policy,
        say=lambda text: console.print(text, style="yellow", highlight=False, soft_wrap=True),
    )


def check_batch(spec: RunSpec, execution: Execution) -> None:
    """UserError unless micro-batch x workers x accumulation can make the global batch."""
    if spec.train.epochs == 0:
        return
    try:
        execution.chunk(spec.train)
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def _watch(ledger: Ledger, specs: Sequence[RunSpec], console: Console) -> Iterator[None]:
    from experiments.tracking import Follower, default_uri

    def warn(text: str) -> None:
        console.print(text, style="yellow", highlight=False)

    with (
        Display(ledger, [spec.run_id for spec in specs], console),
        Follower(ledger, default_uri(ledger.out), specs, warn),
    ):
        yield


def _all_specs(ledger: Ledger) -> list[RunSpec]:
    return [ledger.spec(folder.run_id) for folder in ledger.folders() if exists(folder.spec)]


def sync(out: Location) -> int:
    """Copy every run folder under `out` into MLflow; returns how many there are."""
    from experiments.tracking import Mirror, default_uri

    ledger = Ledger(out)
    specs = _all_specs(ledger)
    Mirror(ledger, default_uri(out)).sync(specs)
    return len(specs)


@contextmanager
def keeping_report(
    out: Location, specs: Sequence[RunSpec], console: Console
) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder to write a report's files to, kept with the sweep's parent run in MLflow.

    Gives the folder and the runs' pages (run_id -> address). A tracker that is down costs both.
    """
    from experiments.tracking import Mirror, default_uri

    with tempfile.TemporaryDirectory() as folder:
        mirror, links = None, {}
        try:
            mirror = Mirror(Ledger(out), default_uri(out))
            links = mirror.links(specs)
        except Exception as error:  # noqa: BLE001
            # The tracker may be down in any way; the report is printed all the same.
            console.print(f"MLflow: {error}", style="yellow", highlight=False)
        yield Path(folder), links
        if mirror is None or not links:
            return
        try:
            mirror.report(specs[-1], Path(folder))
        except Exception as error:  # noqa: BLE001
            console.print(f"MLflow: {error}", style="yellow", highlight=False)


def serve_ui(out: Location, *, host: str, port: int) -> int:
    """Serve MLflow's UI on the runs of `out` until interrupted; its exit status."""
    from experiments.tracking import default_uri, home

    uri, folder = default_uri(out), home(out)
    database = folder / "mlflow.db"
    if uri.endswith(str(database)) and not database.exists():
        where = out if folder == out else f"{out} (its view: {folder})"
        raise UserError(f"{where} has no mlflow.db yet; run a sweep, or `tcclip ui --sync`")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    if not is_local(out):
        folder.mkdir(parents=True, exist_ok=True)
    # Not the user's folder: `-m` would put it on the import path.
    return subprocess.call([*command, "--host", host, "--port", str(port)], cwd=folder)
