"""The object store, MLflow and Ray: working, down and refusing."""

import http.server
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
import pytest
from fsspec.registry import _registry

from experiments.doctor import Finding, report, services
from experiments.errors import UserError
from results.reading.location import location
from tests.experiments.s3 import environment, serving

# ---- Object store ----


def check(out: str) -> Finding:
    (finding,) = report.run_checks({"output folder": lambda: services.object_store(location(out))})
    return finding


def test_object_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        for name, value in environment(port).items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        assert check("s3://bucket/out").ok
        assert boto3.client("s3").list_objects_v2(Bucket="bucket")["KeyCount"] == 0
        missing = check("s3://nobody-made-it/out")
    assert missing.ok is False and "no bucket 'nobody-made-it'" in missing.detail
    assert missing.remedy.startswith("make it, or correct --out")
    down = check("s3://bucket/out")
    assert down.ok is False and "AWS_ENDPOINT_URL" in down.remedy


def test_a_store_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError) as raised:
        location("s3://bucket/out")
    finding = Finding.from_error("output folder", raised.value)
    assert finding.remedy == "on every node: pip install 'tcclip-sweeps[s3]'"


# ---- MLflow ----


@contextmanager
def web_server(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """A web server that answers every request alike, and the Authorization headers it got."""
    received: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            received.append(self.headers["Authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "ok", "said"),
    [
        (200, b'{"experiments": []}', True, "and its database answer"),
        (403, b"Invalid Host header", False, "Invalid Host header"),
        (404, b"not here", False, "not here"),
    ],
)
def test_mlflow_servers(status: int, body: bytes, ok: bool, said: str) -> None:
    with web_server(status, body) as (address, received):
        finding = services.mlflow(f"http://ann:secret@{address}", "out")
    assert finding.ok is ok and said in finding.detail and address in finding.detail
    assert received[0] == "Basic YW5uOnNlY3JldA=="
    assert "secret" not in finding.detail + finding.remedy
    assert ok or "tcclip ui --sync" in finding.remedy


def test_mlflow_addresses_where_nothing_can_be_kept(closed_port: int) -> None:
    down = services.mlflow(f"http://ann:secret@127.0.0.1:{closed_port}", "out")
    assert down.ok is False and "secret" not in down.detail
    assert services.mlflow("file:///somewhere", "out").ok is False
    unquoted = services.mlflow("http://ann:pa/ss@host/x", "out")
    assert unquoted.ok is False and "pa" not in unquoted.detail.split()[0]
    assert "%2F" in unquoted.remedy


def test_mlflow_databases(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    assert services.mlflow(uri, "out").ok, "it can be made"
    path.write_text("no database, but long enough to be looked at as one")
    broken = services.mlflow(uri, "out")
    assert broken.ok is False and "tcclip ui --sync" in broken.remedy
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE experiments (experiment_id TEXT)")
        assert "no such table: runs" in services.mlflow(uri, "out").detail
        database.execute("CREATE TABLE runs (run_uuid TEXT)")
        assert services.mlflow(uri, "out").detail == f"{path} holds 0 runs"
    wrong = services.mlflow(f"sqlite:///{path}/below/mlflow.db", "out")
    assert wrong.ok is False and "$MLFLOW_TRACKING_URI" in wrong.remedy


# ---- Ray ----


def ray(address: str | None) -> Finding:
    (finding,) = report.run_checks({"Ray": lambda: services.ray(address)})
    return finding


def test_ray_clusters(tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray(None).ok is None
    with web_server(200, b"") as (address, _):
        assert ray(address) == Finding("Ray", True, f"--address {address} answers")
    for wrong in ("127.0.0.1:port", "", "127.0.0.1:99999"):
        assert "give HOST:6379 or auto" in ray(wrong).remedy
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "ray start --head" in ray("auto").remedy
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port}\n")
    assert f"127.0.0.1:{closed_port} cannot be reached" in ray("auto").detail
