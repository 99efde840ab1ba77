"""`tcclip doctor` on machines that are well, and on broken ones: each problem and its remedy."""

import http.server
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from experiments import doctor
from experiments.doctor import Finding
from experiments.roots import Roots


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def listening(*answers: bytes) -> Iterator[int]:
    """A port whose connections get `answers`, one each."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


@contextmanager
def web(status: int, body: bytes) -> Iterator[tuple[str, list[Any]]]:
    """A web server with one answer for everything, and the headers it was sent."""
    asked: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ---- The whole, and what is shown ----


def test_a_broken_machine_is_named_with_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No decoder, a bad root, a dead MLflow, no GPU, Ray gone: all found in one go."""
    broken = "raise ImportError('No module named decord')"
    monkeypatch.setattr(doctor, "_DECORD", broken)
    monkeypatch.setattr(doctor, "_PYAV", "import os; os.abort()")
    monkeypatch.setattr(doctor, "_TORCH", "raise OSError('libcudart.so is not there')")
    monkeypatch.setattr(doctor, "_WEIGHTS", "print('[\"timm/weights\"]')")
    roots = Roots(cache=tmp_path / "cache", videos=tmp_path / "gone", annotations=tmp_path)
    server = f"http://127.0.0.1:{closed_port()}"
    cluster = f"127.0.0.1:{closed_port()}"
    findings = doctor.diagnose(roots, tmp_path / "out", server, cluster)
    found = {one.name: one for one in findings}
    bad = {"decord", "PyAV", "GPU", "annotations", "videos", "MLflow", "Ray"}
    assert bad <= {name for name, one in found.items() if one.ok is False}
    assert found["Python"].ok and found["packages"].ok and found["output folder"].ok
    assert "No module named decord" in found["decord"].detail
    assert "SIGABRT" in found["PyAV"].detail
    assert "libcudart.so" in found["GPU"].detail
    assert str(tmp_path / "gone") in found["videos"].detail
    assert server in found["MLflow"].detail
    assert cluster in found["Ray"].detail
    assert all(one.remedy for one in findings if one.ok is False)
    assert doctor.exit_code(findings) == 1
    doctor.show(findings, "terminal")
    text = capsys.readouterr().out
    assert all(one.detail in text and one.remedy in text for one in findings)


def test_no_check_stops_another_or_hangs() -> None:
    stuck = threading.Event()

    def hang() -> list[Finding]:
        stuck.wait(60)
        return []

    def fail() -> list[Finding]:
        raise OSError(5, "Input/output error")

    begin = time.monotonic()
    findings = doctor._run_all(
        {"first": hang, "second": fail, "third": lambda: [Finding("third", True, "fine")]}, 0.3
    )
    stuck.set()
    assert time.monotonic() - begin < 5
    assert [(one.name, one.ok) for one in findings] == [
        ("first", False), ("second", False), ("third", True)
    ]  # fmt: skip
    assert findings[0].detail == "no answer within 0.3 s"
    assert "Input/output error" in findings[1].detail
    assert findings[0].remedy and findings[1].remedy


def test_a_probe_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.3)
    finding = doctor._decoder("decord", "import time; time.sleep(60)", "install it")
    assert finding.ok is False
    assert "no answer within 0.3 s, stopped" in finding.detail


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        Finding("one", True, "with [brackets] and a | bar"),
        Finding("two", False, "broken", "repair it"),
        Finding("three", None, "not there"),
    ]
    doctor.show(findings, "json")
    shown = json.loads(capsys.readouterr().out)
    assert [one["ok"] for one in shown] == [True, False, None]
    assert shown[1]["remedy"] == "repair it"
    doctor.show(findings, "md")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == r"| one | ok | with [brackets] and a \| bar |  |"
    assert lines[3] == "| two | BROKEN | broken | repair it |"
    doctor.show(findings, "terminal")
    text = capsys.readouterr().out
    assert "with [brackets] and a | bar" in text
    assert "two: repair it" in text
    assert doctor.exit_code(findings) == 1
    assert doctor.exit_code([findings[0], findings[2]]) == 0


# ---- Packages, GPUs, memory, disk ----


def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["nothing-like-it>=1", "pydantic>=999", "rich>=1", 'other; extra == "dev"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: wanted)
    (finding,) = doctor._packages()
    assert finding.ok is False
    assert "nothing-like-it is not installed; pydantic" in finding.detail
    assert "where >=999 is needed" in finding.detail
    assert "rich" not in finding.detail and "other" not in finding.detail
    assert "requirements.txt" in finding.remedy


@pytest.mark.parametrize(
    ("driver", "built", "visible", "ok", "said"),
    [
        (None, "13.0", None, None, "install NVIDIA's driver"),
        ("580.1", None, None, False, "install the pinned torch"),
        ("580.1", "13.0", "", False, "unset CUDA_VISIBLE_DEVICES"),
        ("470.1", "13.0", None, False, "the driver must know CUDA 13.0"),
    ],
)
def test_no_gpu(
    driver: str | None,
    built: str | None,
    visible: str | None,
    ok: bool | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    finding = doctor._no_gpu(driver, built)
    assert finding.ok is ok
    assert said in finding.remedy


@pytest.mark.parametrize(("nccl", "ok"), [("2.27.5", True), (None, False)])
def test_gpus(nccl: str | None, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"gpus": ["NVIDIA H200 139 GiB"] * 2, "cuda": "13.0", "nccl": nccl, "gloo": True}
    monkeypatch.setattr(doctor, "_probe", lambda code: seen)
    gpu, found = doctor._gpus()
    assert gpu.ok and "NVIDIA H200 139 GiB, NVIDIA H200 139 GiB" in gpu.detail
    assert found.ok is ok


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = os.statvfs_result((4096, 4096, 16384, 16384, 16384, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda folder: small)
    (finding,) = doctor._shared_memory(tmp_path)
    assert finding.ok is False
    assert "0.1 of 0.1 GiB" in finding.detail
    assert "--shm-size" in finding.remedy
    (finding,) = doctor._shared_memory(tmp_path / "none")
    assert finding.ok is None


def test_folders(tmp_path: Path) -> None:
    later = doctor._folder("output folder", tmp_path / "a" / "b", "--out", 0)
    assert later.ok and "(will be made)" in later.detail
    assert not (tmp_path / "a").exists() and not list(tmp_path.iterdir())
    full = doctor._folder("output folder", tmp_path, "--out", 2**60)
    assert full.ok is False and "free at least" in full.remedy
    (tmp_path / "file").write_text("")
    wrong = doctor._folder("output folder", tmp_path / "file", "--out", 0)
    assert wrong.ok is False and "Not a directory" in wrong.detail and "--out" in wrong.remedy


# ---- Decoders, weights, data ----


def test_both_decoders_read_the_small_video() -> None:
    (decord,), (pyav,) = doctor._decord(), doctor._pyav()
    assert pyav.ok and "read 8 frames" in pyav.detail
    assert decord.ok is not False


def test_wrong_frames_are_found() -> None:
    finding = doctor._decoder("decord", "print([1, 2, 3])", "install it")
    assert finding.ok is False and "wrong frames" in finding.detail


@pytest.mark.parametrize(
    ("files", "offline", "ok"),
    [(["/cache/open_clip_model.safetensors"], "1", True), ([], "0", None), ([], "1", False)],
)
def test_weights(
    files: list[str], offline: str, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(doctor, "_probe", lambda code, name: ["timm/weights", *files])
    (finding,) = doctor._weights()
    assert finding.ok is ok
    assert ok or "hf download timm/weights" in finding.remedy


def test_data_nobody_gave(tmp_path: Path) -> None:
    roots = Roots(cache=tmp_path)
    assert doctor._annotations(roots).ok is None
    assert [one.ok for one in doctor._videos(roots)] == [None]


def test_annotations_that_are_not_as_published(tmp_path: Path) -> None:
    finding = doctor._annotations(Roots(cache=tmp_path, annotations=tmp_path))
    assert finding.ok is False
    assert "(missing)" in finding.detail and finding.detail.endswith("...")
    assert finding.remedy == f"tcclip data fetch --to {tmp_path}"
    finding = doctor._annotations(Roots(cache=tmp_path, annotations=tmp_path / "gone"))
    assert finding.ok is False and "not a folder" in finding.detail


def test_videos(tmp_path: Path) -> None:
    (tmp_path / "hmdb51").mkdir()
    (tmp_path / "hmdb51" / "one.avi").write_bytes(b"")
    (tmp_path / "ucf101").mkdir()
    roots = Roots(cache=tmp_path, videos=tmp_path, folders={"ssv2": tmp_path / "gone"})
    found = {one.name: one for one in doctor._videos(roots)}
    assert {name.split()[-1]: one.ok for name, one in found.items()} == {
        "k400": None, "k600": None, "hmdb51": True, "ucf101": False, "ssv2": False
    }  # fmt: skip
    assert "is empty" in found["videos of ucf101"].detail
    assert "tcclip data check --datasets hmdb51" in found["videos of hmdb51"].detail


def test_a_root_without_any_data_set(tmp_path: Path) -> None:
    (finding,) = doctor._videos(Roots(cache=tmp_path, videos=tmp_path))
    assert finding.ok is False
    assert "k400, k600, hmdb51, ucf101, ssv2" in finding.remedy


# ---- MLflow ----


def test_an_mlflow_server_that_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with web(200, b'{"experiments": []}') as (uri, asked):
        finding = doctor._mlflow(uri, tmp_path)
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
        finding = doctor._mlflow(uri, tmp_path)
    assert finding.ok is False
    assert remedy in finding.remedy


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    finding = doctor._mlflow(f"http://ann:secret@127.0.0.1:{closed_port()}", tmp_path)
    assert finding.ok is False
    assert "secret" not in finding.detail + finding.remedy


def test_an_mlflow_server_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "NETWORK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        finding = doctor._mlflow(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path)
    assert finding.ok is False and "timed out" in finding.detail


def test_mlflow_databases(tmp_path: Path) -> None:
    assert doctor._mlflow(None, tmp_path).ok
    path = tmp_path / "mlflow.db"
    path.write_text("no database, but long enough to be looked at as one")
    broken = doctor._mlflow(f"sqlite:///{path}", tmp_path)
    assert broken.ok is False and "tcclip ui --sync" in broken.remedy
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection.close()
    assert doctor._mlflow(None, tmp_path).detail == f"{path} holds 0 runs"


def test_other_mlflow_stores(tmp_path: Path) -> None:
    assert doctor._mlflow("file:///somewhere", tmp_path).ok is False
    assert doctor._mlflow("databricks://profile", tmp_path).ok is None
    gone = doctor._mlflow(f"postgresql://u:p@127.0.0.1:{closed_port()}/db", tmp_path)
    assert gone.ok is False and "start PostgreSQL" in gone.remedy


# ---- Ray ----


def test_ray_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    assert doctor._ray(None).ok is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a token")
    with listening(settings, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"") as port:
        assert doctor._ray(f"127.0.0.1:{port}") == Finding("Ray", True, f"127.0.0.1:{port} answers")
        for _ in range(2):
            other = doctor._ray(f"ray://127.0.0.1:{port}")
            assert other.ok is False and "is not Ray" in other.detail
    for wrong in ("127.0.0.1:port", "", "127.0.0.1:99999"):
        assert "--address" in doctor._ray(wrong).remedy


def test_a_ray_cluster_without_a_token_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with listening(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00") as port:
        finding = doctor._ray(f"127.0.0.1:{port}")
    assert finding.ok is None and "RAY_AUTH_TOKEN" in finding.remedy


def test_address_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "ray start --head" in doctor._ray("auto").remedy
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port()}\n")
    assert "127.0.0.1" in doctor._ray("auto").detail
