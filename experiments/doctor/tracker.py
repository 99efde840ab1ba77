"""Whether MLflow can be reached: asked of its port or its file, MLflow is not imported."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from experiments.doctor import ports
from experiments.doctor.ports import port_finding
from experiments.doctor.probes import line
from experiments.doctor.report import Finding
from experiments.errors import UserError
from experiments.tracking.connection import redact_url, sync_command
from experiments.tracking.sqlite_file import sqlite_file
from results.reading.location import Location, location


def mlflow(find: Callable[[Location], str], out: str) -> Finding:
    """Whether the tracking URI that `find` gives for the output folder `out` answers."""
    try:
        uri = find(location(out))
    except UserError:
        unknown = "not checked: which store it is depends on the output folder"
        return Finding("MLflow", None, unknown, "correct the output folder first")
    return tracking_store(uri, out)


def tracking_store(uri: str, out: str) -> Finding:
    """Whether the server or database at `uri`, with the copies of `out`, answers."""
    if uri.partition("://")[0] in ("databricks", "databricks-uc", "uc"):
        return Finding("MLflow", None, "a store of Databricks is not checked")
    try:
        parts = urllib.parse.urlsplit(uri)
        _ = parts.port
    except ValueError:  # its message would show a part of the password
        quote = "correct $MLFLOW_TRACKING_URI; in a password / @ : are written %2F %40 %3A"
        return Finding("MLflow", False, f"{redact_url(uri)} is no address", quote)
    if parts.scheme in ("http", "https"):
        return _server(uri, parts, out)
    if parts.scheme.startswith("sqlite"):
        return _database(sqlite_file(uri), out)
    if parts.scheme.startswith("postgresql"):
        host, port = parts.hostname or "localhost", parts.port or 5432
        return port_finding("MLflow", host, port, "PostgreSQL")
    if parts.scheme in ("", "file"):
        use = "set $MLFLOW_TRACKING_URI to sqlite:////ABSOLUTE/PATH.db or a server's http://"
        return Finding(
            "MLflow", False, f"{redact_url(uri)}: MLflow no longer writes to plain folders", use
        )
    return Finding("MLflow", None, f"a store of kind {parts.scheme!r} is not checked")


def _database(path: Path | None, out: str) -> Finding:
    if path is None:
        return Finding("MLflow", None, "a database in memory keeps nothing")
    again = f"move {path} away and rebuild it from the runs: {sync_command(out)}"
    if not path.exists():
        return _place(path)
    try:
        connection = sqlite3.connect(
            f"file:{urllib.parse.quote(str(path))}?mode=ro", uri=True, timeout=ports.NETWORK_SECONDS
        )
        try:
            fault = _fault(connection)
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding("MLflow", False, f"{path} cannot be read: {error}", again)
    if fault is not None:
        return Finding("MLflow", False, f"{path} {fault}", again)
    if not os.access(path, os.W_OK):
        return Finding("MLflow", False, f"{path} may not be written", f"chmod u+w {path}")
    return Finding("MLflow", True, f"{path} holds {runs} runs")


def _place(path: Path) -> Finding:
    """Of a database that is not there yet: whether it can be made."""
    folder = next(one for one in path.absolute().parents if one.exists())
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding("MLflow", True, f"{path} will be made by the first sweep")
    give = f"make {folder} a folder you may write to, or correct $MLFLOW_TRACKING_URI"
    return Finding("MLflow", False, f"{path} cannot be made in {folder}", give)


def _fault(connection: sqlite3.Connection) -> str | None:
    """What is wrong with the tables, if anything: MLflow makes and changes them in many steps."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    if any(name.startswith("_alembic_tmp_") for name in names):
        return "was left in the middle of being made or upgraded"
    if "alembic_version" not in names:
        return "is not a whole database of MLflow's"
    found = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
    newest = _newest()
    if newest and found != newest:
        had, has = ", ".join(sorted(found)) or "none", ", ".join(sorted(newest))
        return f"is of another MLflow version, or was left half-made (tables {had}, not {has})"
    return None


def _newest() -> set[str]:
    """The tables' version that the installed MLflow works with, from its files; none if unknown."""
    spec = importlib.util.find_spec("mlflow")
    data_paths = spec.submodule_search_locations if spec is not None else None
    texts = [
        file.read_text(errors="replace")
        for root in data_paths or ()
        for file in Path(root, "store", "db_migrations", "versions").glob("*.py")
    ]
    known = {one for text in texts for one in re.findall(r"^revision\b.*?['\"](\w+)", text, re.M)}
    before = {one for text in texts for one in re.findall(r"^down_revision\b(.*)", text, re.M)}
    return known - {name for line in before for name in re.findall(r"\w+", line)}


def _server(uri: str, parts: urllib.parse.SplitResult, out: str) -> Finding:
    """Ask the server for an experiment: its database must answer too."""
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    ask = f"{shown.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    start = (
        f"start the server at {shown}, or correct $MLFLOW_TRACKING_URI; sweeps run without it, "
        f"and {sync_command(out)} copies them later"
    )
    try:
        request = urllib.request.Request(ask, headers=_credentials(parts))
        with urllib.request.urlopen(request, timeout=ports.NETWORK_SECONDS) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            body = line(error.read(500).decode(errors="replace"), 120)
        detail = f"{shown} answers {error.code} {error.reason}: {body}"
        return Finding("MLflow", False, detail, _refused(error.code, body))
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        return Finding("MLflow", False, f"{shown} cannot be reached: {cause}", start)
    return Finding("MLflow", True, f"{shown} and its database answer")


def _credentials(parts: urllib.parse.SplitResult) -> dict[str, str]:
    """The header MLflow's client would send, from the environment or the URI."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or parts.username
    if user is not None:
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or parts.password or ""
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refused(code: int, body: str) -> str:
    if "Invalid Host header" in body:
        return "start the server with --allowed-hosts and the name it is reached by"
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "set $MLFLOW_TRACKING_USERNAME and _PASSWORD, or $MLFLOW_TRACKING_TOKEN"
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "see the server's log: its database may be down"
    return "is this an MLflow server? Correct $MLFLOW_TRACKING_URI"
