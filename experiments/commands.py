"""What the CLI's commands on runs do, one function a command; each returns what to show or exit."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from experiments.cost import ASSUMPTION, Cost, cost
from experiments.display import Display, count_states, print_rows, status_table
from experiments.errors import UserError
from experiments.executor import Executor, make_executor
from experiments.files import Location, exists, is_local, names, remove
from experiments.ledger import Ledger, State
from experiments.roots import Roots
from experiments.spec import RunSpec
from experiments.status import RunStatus, statuses
from experiments.sweep import Summary, forget, outstanding
from experiments.sweep import sweep as run_sweep
from tcclip.config import Execution

FORMATS = ("terminal", "md", "json")


@dataclass(frozen=True)
class PlannedRun:
    """One row of a dry run."""

    run_id: str
    state: State
    after: str | None
    cost: Cost
    overrides: tuple[str, ...] = ()


def dry_run(specs: Sequence[RunSpec], out: Location, roots: Roots) -> list[PlannedRun]:
    """The runs of a grid with their states, dependencies and costs; nothing is written."""
    ledger = Ledger(out)
    states = ledger.states(specs)
    return [
        PlannedRun(
            spec.run_id,
            states[spec.run_id],
            spec.parent,
            cost(spec, ledger, _lines(spec, roots)),
            spec.key.overrides,
        )
        for spec in specs
    ]


def _lines(spec: RunSpec, roots: Roots) -> int | None:
    """Videos of the training list if it is at hand; a list without a published length needs it."""
    if spec.train_list.split.videos is not None or roots.annotations is None:
        return None
    path = roots.annotations / spec.train_list.split.annotations
    if not path.is_file():
        return None
    with path.open() as file:
        return sum(bool(line.strip()) for line in file)


def print_plan(rows: Sequence[PlannedRun], format: str) -> None:
    """Print a dry run as a table, markdown or JSON, with its totals."""
    if format == "json":
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    head = ["run", "state", "after", "train videos", "steps", "test videos", "GPU-h", "", "GB"]
    cells = [_plan_cells(row) for row in rows]
    if any(row.overrides for row in rows):
        head.append("settings")
        for cell, row in zip(cells, rows, strict=True):
            cell.append(" ".join(row.overrides))
    print_rows(count_states([row.state for row in rows]), head, cells, format, left=3)
    left = [row for row in rows if row.state is not State.FINISHED]
    hours = [row.cost.gpu_hours for row in left]
    known = sum(hour for hour in hours if hour is not None)
    unknown = sum(hour is None for hour in hours)
    disk = sum(row.cost.gigabytes for row in left)
    more = f" (and {unknown} runs whose training list is not at hand)" if unknown else ""
    print(f"left: {len(left)} runs, {known:.1f} GPU-hours{more}, {disk:.1f} GB\n{ASSUMPTION}")


def _plan_cells(row: PlannedRun) -> list[str]:
    one = row.cost
    hours = "–" if one.gpu_hours is None else f"{one.gpu_hours:.2f}"
    counts = ["–" if n is None else str(n) for n in (one.videos, one.steps, one.eval_videos)]
    after = "" if row.after is None else row.after.rpartition("-")[2]
    return [row.run_id, str(row.state), after, *counts, hours, one.basis, f"{one.gigabytes:.1f}"]


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
) -> Summary:
    """Compute what is missing of `specs`, shown on `console` and mirrored to MLflow.

    `checkpoint`: the file that runs with a `RunSpec.checkpoint` start from. `halving`: let ASHA
    stop the trials of a search that fall behind.
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


def status(out: Location) -> list[RunStatus]:
    """Every run under `out`."""
    if "runs" not in names(out):
        raise UserError(f"{out} holds no runs; give the folder of a sweep with --out")
    return statuses(Ledger(out))


def watch_status(out: Location, console: Console) -> None:
    """Redraw the status of `out` until interrupted."""
    with Live(console=console, refresh_per_second=1) as live:
        while True:
            live.update(status_table(status(out)))
            time.sleep(2)


def print_statuses(rows: Sequence[RunStatus], console: Console, format: str) -> None:
    """Print `rows` as a table, markdown or JSON."""
    if format == "json":
        print(json.dumps([asdict(row) for row in rows], indent=1))
    elif format == "md":
        print("| run | state | epoch | val top-1 % |\n|---|---|---|---|")
        for row in rows:
            top1 = "–" if row.top1 is None else f"{row.top1:.1f}"
            print(f"| {row.run_id} | {row.state} | {row.epoch or '–'} | {top1} |")
    else:
        console.print(status_table(rows))


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
