"""The checks: working, broken and refusing."""

import errno
import http.server
import io
import multiprocessing
import os
import re
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import open_clip
import pytest
from fsspec.registry import _registry
from huggingface_hub import constants

from experiments import machine
from experiments.datasets.own.yaml_file import read_own
from experiments.datasets.paths import DataPaths
from experiments.doctor import Finding, checks, report
from experiments.errors import UserError
from experiments.processes import ProcessFailed
from results.reading.location import location
from tcclip.config import ModelConfig
from tests.experiments.s3 import environment

# ---- Packages, GPU, memory, folders ----


def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["nothing-like-it>=1", "pydantic>=999", "rich>=1", 'other; extra == "dev"']
    monkeypatch.setattr(checks.importlib.metadata, "requires", lambda name: wanted)
    finding = checks.required_packages()
    assert finding.ok is False
    assert "nothing-like-it is not installed; pydantic" in finding.detail
    assert "where >=999 is needed" in finding.detail
    assert "rich" not in finding.detail and "other" not in finding.detail
    assert "requirements.txt" in finding.remedy


@pytest.mark.parametrize(
    ("gpus", "driver", "ok", "said"),
    [
        (["NVIDIA H200 139 GiB"] * 2, "580.1\n", True, "H200 139 GiB, NVIDIA H200 139 GiB; CUDA"),
        ([], None, None, "no NVIDIA driver is loaded"),
        ([], "580.1\n", False, "driver 580.1 is loaded, but torch (CUDA 13.0) sees no GPU"),
    ],
)
def test_gpus(
    gpus: list[str],
    driver: str | None,
    ok: bool | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if driver is not None:
        (tmp_path / "version").write_text(driver)
    monkeypatch.setattr(checks, "DRIVER", tmp_path / "version")
    torch = {"gpus": gpus, "cuda": "13.0", "nccl": "2.27.5"}
    monkeypatch.setattr(checks, "run_python", lambda code: torch)
    finding = checks.gpu()
    assert finding.ok is ok
    assert said in finding.detail
    assert finding.ok or finding.remedy


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(2**26, 0, 2**26)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    finding = checks.shared_memory(tmp_path)
    assert finding.ok is None
    assert "64 of 64 MiB" in finding.detail
    assert "--shm-size" in finding.remedy
    assert checks.shared_memory(tmp_path / "none").ok is None


def test_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a sweep."""
    monkeypatch.setattr(checks, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "cpu_count", lambda: 8)
    for free, ok, detail in (
        (2**36, True, "7 for a run that is alone here (8 CPUs)"),
        (
            2**31,
            None,
            "1 for a run that is alone here (8 CPUs), through memory without a name: not 7",
        ),
    ):
        monkeypatch.setattr(machine, "free_memory", lambda free=free: free)
        finding = checks.loaders()
        assert finding.ok is ok
        assert detail in finding.detail
        assert ok or "more memory" in finding.remedy

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(multiprocessing.get_context("fork"), "Lock", full)
    assert checks.loaders().ok is False


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = checks.folder("output folder", tmp_path / "a" / "b", "--out", for_runs=True)
    assert later.ok and "(will be made)" in later.detail
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(checks, "FREE_DISK", 2**60)
    full = checks.folder("output folder", tmp_path, "--out", for_runs=True)
    assert full.ok is False and "free at least" in full.remedy
    (tmp_path / "file").write_text("")
    wrong = checks.folder("cache folder", tmp_path / "file", "$TCCLIP_CACHE")
    assert wrong.ok is False and "Not a directory" in wrong.detail
    assert "$TCCLIP_CACHE" in wrong.remedy


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    finding = checks.folder("output folder", tmp_path, "--out", for_runs=True)
    assert finding.ok is False and "hard links" in finding.remedy and "--out" in finding.remedy
    assert checks.folder("cache folder", tmp_path, "$TCCLIP_CACHE").ok
    assert not list(tmp_path.iterdir())


# ---- Decoders, weights, data sets ----


def test_both_decoders_decode_the_small_video() -> None:
    pyav = checks.decoder("PyAV", checks.PYAV, "")
    assert pyav.ok and "decoded 8 frames" in pyav.detail
    assert checks.decord().ok is not False


def test_wrong_frames_are_found() -> None:
    finding = checks.decoder("decord", "print([1, 2, 3])", "install it")
    assert finding.ok is False and "wrong frames" in finding.detail


@pytest.mark.parametrize(
    ("path", "offline", "ok"),
    [("/cache/file", True, True), (None, False, None), (None, True, False)],
)
def test_clip_weights(
    path: str | None, offline: bool, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(checks, "try_to_load_from_cache", lambda repository, file: path)
    finding = checks.clip_weights()
    assert finding.ok is ok
    assert ok or f"hf download {checks.CLIP_REPOSITORY}" in finding.remedy


def test_the_weights_are_looked_for_where_open_clip_has_them() -> None:
    config = open_clip.get_pretrained_cfg(ModelConfig().backbone, "openai")
    assert config["hf_hub"].rstrip("/") == checks.CLIP_REPOSITORY
    assert checks.CLIP_FILE == open_clip.constants.HF_SAFE_WEIGHTS_NAME


def test_without_data_folders(tmp_path: Path) -> None:
    paths = DataPaths(cache=tmp_path)
    assert checks.annotation_lists(paths).ok is None
    assert [one.ok for one in checks.video_folders(paths)] == [None]


def test_annotations_that_are_not_as_published(tmp_path: Path) -> None:
    finding = checks.annotation_lists(DataPaths(cache=tmp_path, annotations=tmp_path))
    assert finding.ok is False
    assert "(missing)" in finding.detail and finding.detail.endswith("...")
    assert finding.remedy == f"tcclip data fetch --to {tmp_path}"


def test_videos(tmp_path: Path) -> None:
    (tmp_path / "hmdb51").mkdir()
    (tmp_path / "hmdb51" / "one.avi").write_bytes(b"")
    (tmp_path / "ucf101").mkdir()
    elsewhere = {"ssv2": tmp_path / "elsewhere" / "gone"}
    paths = DataPaths(cache=tmp_path, videos=tmp_path, folders=elsewhere)
    found = {one.name: one for one in checks.video_folders(paths)}
    assert {name.split()[-1]: one.ok for name, one in found.items()} == {
        "k400": None, "k600": None, "hmdb51": True, "ucf101": False, "ssv2": False
    }  # fmt: skip
    assert "is empty" in found["videos of ucf101"].detail
    assert "tcclip data check --datasets hmdb51" in found["videos of hmdb51"].detail


def test_own_lists(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("0,wave\n1,nod\n")
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    (tmp_path / "a.mp4").touch()
    (tmp_path / "own.yaml").write_text(
        "name: own\nvideos: .\nlabels: labels.csv\nsplits: {train: train.txt}\n"
    )
    paths = DataPaths(cache=tmp_path, own=(read_own(tmp_path / "own.yaml"),))
    (finding,) = checks.own_lists(paths)
    assert (finding.name, finding.ok) == ("lists of own", None)
    assert "own train: no video of 1 of 2 classes: 1 'nod'" in finding.detail
    (tmp_path / "labels.csv").write_text("0,wave\n1,Wave\n")
    (tmp_path / "a.mp4").unlink()
    (finding,) = checks.own_lists(paths)
    assert finding.ok is False
    assert "cannot tell classes 0 'wave' and 1 'Wave' apart" in finding.detail
    assert "1 of 1 videos are not there" in finding.detail
    assert "tcclip data check --datasets own" in finding.remedy


@pytest.mark.parametrize("root", [".", "gone"])
def test_a_root_without_any_data_set(tmp_path: Path, root: str) -> None:
    (finding,) = checks.video_folders(DataPaths(cache=tmp_path, videos=tmp_path / root))
    assert finding.ok is False
    assert "k400, k600, hmdb51, ucf101, ssv2" in finding.remedy


# ---- Object store ----


def check(out: str) -> Finding:
    (finding,) = report.run_checks({"output folder": lambda: checks.object_store(location(out))})
    return finding


def test_object_stores(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("memory://bucket/out").ok
    assert not location("memory://bucket/out").fs.find("/bucket"), "the trial leaves nothing"
    for name, value in environment(closed_port).items():
        monkeypatch.setenv(name, value)
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


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow is asked in this process: one of its own takes four seconds to import it."""

    def run(code: str, text: str) -> None:
        with monkeypatch.context() as patch:
            for name in ("TIMEOUT", "MAX_RETRIES"):  # which the code sets
                patch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "1")
            patch.setattr(sys, "stdin", io.StringIO(text))
            try:
                exec(code, {})
            except SystemExit as error:
                raise ProcessFailed(str(error)) from error

    monkeypatch.setattr(checks, "run_python", run)


@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.usefixtures("asked_here")
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
        finding = checks.mlflow(f"http://ann:secret@{address}", "out")
    assert finding.ok is ok and said in finding.detail and address in finding.detail
    assert received[0] == "Basic YW5uOnNlY3JldA=="
    assert "secret" not in finding.detail + finding.remedy
    assert ok or "tcclip ui --sync" in finding.remedy


def test_a_server_that_is_down_is_asked_in_a_process_of_its_own(closed_port: int) -> None:
    down = checks.mlflow(f"http://ann:secret@127.0.0.1:{closed_port}", "out")
    assert down.ok is False and "secret" not in down.detail and str(closed_port) in down.detail


@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.usefixtures("asked_here")
def test_mlflow_addresses_where_nothing_can_be_kept() -> None:
    assert checks.mlflow("file:///somewhere", "out").ok is False
    unquoted = checks.mlflow("http://ann:pa/ss@host/x", "out")
    assert unquoted.ok is False and "pa" not in unquoted.detail.split()[0]
    assert "%2F" in unquoted.remedy


def test_mlflow_databases(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    assert checks.mlflow(uri, "out").ok, "it can be made"
    path.write_text("no database, but long enough to be looked at as one")
    broken = checks.mlflow(uri, "out")
    assert broken.ok is False and "tcclip ui --sync" in broken.remedy
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE experiments (experiment_id TEXT)")
        assert "no such table: runs" in checks.mlflow(uri, "out").detail
        database.execute("CREATE TABLE runs (run_uuid TEXT)")
        assert checks.mlflow(uri, "out").detail == f"{path} holds 0 runs"
    wrong = checks.mlflow(f"sqlite:///{path}/below/mlflow.db", "out")
    assert wrong.ok is False and "$MLFLOW_TRACKING_URI" in wrong.remedy


@pytest.mark.parametrize(
    ("left", "ok", "detail"),
    [(7200, True, "a sweep pauses at .* the end of the Slurm job"), (-5, None, "not heeded")],
)
def test_when_a_sweep_in_a_slurm_job_would_pause(
    left: int, ok: bool | None, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert checks.job_end() == []
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + left))
    (finding,) = checks.job_end()
    assert finding.ok is ok and re.search(detail, finding.detail)
