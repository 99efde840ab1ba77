"""MLflow and Ray, up, down and refusing."""

import socket
import sqlite3
from pathlib import Path

import pytest

from experiments.doctor import Finding, cluster, ports, tracker
from experiments.store.ledger import Ledger
from experiments.tracking import Mirror
from results.reading.location import Location
from tests.experiments.doctor.network import closed_port, listening, web

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own


def database(out: Location) -> str:
    return f"sqlite:///{out / 'mlflow.db'}"


# ---- MLflow ----


def test_an_mlflow_server_that_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with web(200, b'{"experiments": []}') as (uri, asked):
        finding = tracker.tracking_store(uri, "out")
    assert finding == Finding("MLflow", True, f"{uri} and its database answer")
    ((path, headers),) = asked
    assert path == "/api/2.0/mlflow/experiments/search?max_results=1"
    assert headers["Authorization"] == "Basic YW5uOnNlY3JldA=="


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "--allowed-hosts"),
        (401, b"who are you", "MLFLOW_TRACKING_USERNAME"),
        (500, b"could not connect to server", "its database may be down"),
        (404, b"not here", "is this an MLflow server?"),
        (200, b"<html>something else</html>", "correct $MLFLOW_TRACKING_URI"),
    ],
)
def test_an_mlflow_server_that_refuses(
    status: int, body: bytes, remedy: str, tmp_path: Path
) -> None:
    with web(status, body) as (uri, _):
        finding = tracker.tracking_store(uri, "out")
    assert finding.ok is False
    assert remedy in finding.remedy


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    finding = tracker.tracking_store(f"http://ann:secret@127.0.0.1:{closed_port()}", "out")
    assert finding.ok is False
    assert "secret" not in finding.detail + finding.remedy


def test_an_mlflow_server_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "NETWORK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        finding = tracker.tracking_store(f"http://127.0.0.1:{server.getsockname()[1]}", "out")
    assert finding.ok is False and "timed out" in finding.detail


def test_mlflow_databases(tmp_path: Path) -> None:
    assert tracker.mlflow(database, str(tmp_path)).ok
    path = tmp_path / "mlflow.db"
    path.write_text("no database, but long enough to be looked at as one")
    broken = tracker.tracking_store(f"sqlite:///{path}", "out")
    assert broken.ok is False and "tcclip ui --sync" in broken.remedy
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection.close()
    half = tracker.mlflow(database, str(tmp_path))
    assert half.ok is False and "move" in half.remedy
    path.unlink()
    Mirror(Ledger(tmp_path), database(tmp_path))
    assert tracker.mlflow(database, str(tmp_path)).detail == f"{path} holds 0 runs"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("CREATE TABLE _alembic_tmp_runs (made)", "in the middle of being made"),
        ("UPDATE alembic_version SET version_num = '451aebb31d03'", "left half-made"),
        ("DELETE FROM alembic_version", "left half-made"),
        ("DROP TABLE alembic_version", "not a whole database"),
    ],
)
def test_a_database_that_was_left_half_made(tmp_path: Path, change: str, fault: str) -> None:
    Mirror(Ledger(tmp_path), database(tmp_path))
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    connection.execute(change)
    connection.commit()
    connection.close()
    finding = tracker.tracking_store(database(tmp_path), "out")
    assert finding.ok is False and fault in finding.detail
    assert "tcclip ui --sync" in finding.remedy


def test_stores_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = tracker.tracking_store(f"sqlite:///{tmp_path}/file/mlflow.db", "out")
    assert finding.ok is False and f"cannot be made in {tmp_path / 'file'}" in finding.detail
    finding = tracker.tracking_store("http://ann:pa/ss@host/x", "out")
    assert finding.ok is False and "pa" not in finding.detail and "%2F" in finding.remedy
    assert tracker.tracking_store("databricks", "out").ok is None
    assert tracker.tracking_store("sqlite:///:memory:", "out").ok is None


def test_mlflow_of_an_output_folder_that_cannot_be() -> None:
    finding = tracker.mlflow(database, "nowhere://bucket/out")
    assert finding.ok is None and "output folder" in finding.remedy


def test_other_mlflow_stores(tmp_path: Path) -> None:
    assert tracker.tracking_store("file:///somewhere", "out").ok is False
    assert tracker.tracking_store("databricks://profile", "out").ok is None
    gone = tracker.tracking_store(f"postgresql://u:p@127.0.0.1:{closed_port()}/db", "out")
    assert gone.ok is False and "start PostgreSQL" in gone.remedy


# ---- Ray ----


def test_ray_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    assert cluster.ray(None).ok is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a token")
    with listening(settings, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"") as port:
        assert cluster.ray(f"127.0.0.1:{port}") == Finding("Ray", True, f"127.0.0.1:{port} answers")
        for _ in range(2):
            other = cluster.ray(f"ray://127.0.0.1:{port}")
            assert other.ok is False and "is not Ray" in other.detail
    for wrong in ("127.0.0.1:port", "", "127.0.0.1:99999"):
        assert "--address" in cluster.ray(wrong).remedy


def test_a_ray_cluster_without_a_token_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with listening(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00") as port:
        finding = cluster.ray(f"127.0.0.1:{port}")
    assert finding.ok is None and "RAY_AUTH_TOKEN" in finding.remedy


def test_address_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "ray start --head" in cluster.ray("auto").remedy
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port()}\n")
    assert "127.0.0.1" in cluster.ray("auto").detail
