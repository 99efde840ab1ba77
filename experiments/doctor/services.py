"""Services: the object store, MLflow and Ray."""

from __future__ import annotations

import sqlite3
import urllib.parse
from contextlib import closing
from pathlib import Path

from experiments.doctor import machine
from experiments.doctor.report import Finding, ProcessFailed, run_python
from experiments.scheduler.executor import check_address
from experiments.store.files import check_exclusive
from experiments.tracking.connection import redact_url, sync_command
from results.reading.location import Location, check_reachable

#: Asks for an experiment, so that a server's database has to answer too.
MLFLOW = """
import os, sys
os.environ |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
import mlflow
try:
    mlflow.MlflowClient(sys.stdin.read()).search_experiments(max_results=1)
except Exception as error:
    raise SystemExit(" ".join(str(error).split()))
print("null")
"""


def object_store(place: Location) -> Finding:
    """Whether runs can be kept in `place`; StorageError if not."""
    check_reachable(place)
    check_exclusive(place)
    return Finding("output folder", True, f"{place}: an object was created there and removed")


def mlflow(uri: str, out: str) -> Finding:
    """Whether MLflow's tracking store at `uri`, for the runs in `out`, can be used.

    An empty PostgreSQL database gets MLflow's tables, as it would from the first sweep.
    """
    if uri.startswith("sqlite:///"):
        path = Path(urllib.parse.unquote(uri.removeprefix("sqlite:///")))
        return _database(path.absolute(), out)
    try:
        run_python(MLFLOW, uri)
    except ProcessFailed as error:
        remedy = (
            "start the server (for 'Invalid Host header' with --allowed-hosts), or correct "
            "$MLFLOW_TRACKING_URI or $MLFLOW_TRACKING_USERNAME and _PASSWORD; a password in the "
            "address needs %2F %40 %3A for / @ :. Sweeps run without MLflow, and "
            f"{sync_command(out)} copies them later"
        )
        return Finding("MLflow", False, redact_url(f"{uri}: {error}"), remedy)
    return Finding("MLflow", True, f"{redact_url(uri)} and its database answer")


def _database(path: Path, out: str) -> Finding:
    if not path.exists():
        return machine.folder("MLflow", path.parent, "$MLFLOW_TRACKING_URI")
    address = f"file:{urllib.parse.quote(str(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            (runs,) = database.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        remedy = f"move {path} away and make it again from the runs: {sync_command(out)}"
        return Finding("MLflow", False, f"{path} is no database of MLflow's: {error}", remedy)
    return Finding("MLflow", True, f"{path} holds {runs} runs")


def ray(address: str | None) -> Finding:
    """Whether the cluster at `address` answers (UserError if not); "auto" is this machine's."""
    if address is None or address == "local":
        return Finding("Ray", None, "no --address given: a sweep starts Ray on this machine")
    check_address(address)
    return Finding("Ray", True, f"--address {address} answers")
