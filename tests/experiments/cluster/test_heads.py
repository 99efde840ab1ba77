"""Clusters that `ray start` made on this machine: joined in seconds, or said why not."""

import importlib.util
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.grid.spec import RunSpec
from tests.experiments.cluster.heads import RAY, start_head
from tests.experiments.cluster.test_place import doctor
from tests.experiments.scheduler.test_signals import start
from tests.experiments.sweeping import numbers

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5a" * 32}


@pytest.fixture
def head(ray_folder: Path, closed_port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A head with a token: its address and process. Ray's address file names it."""
    process = start_head(ray_folder, closed_port, **TOKEN)
    yield f"127.0.0.1:{closed_port}", process
    process.terminate()
    process.wait(60)
    (ray_folder / "ray" / "ray_current_cluster").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_joins_the_cluster_that_the_environment_names(
    head: tuple[str, subprocess.Popen[bytes]], finished: tuple[Path, RunSpec], tmp_path: Path,
    cache: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    address, process = head
    expected, spec = finished
    # Nobody named it, and its token is not known: left alone. Named, it is an error.
    assert "its token is missing here" in doctor().detail and doctor().ok is None
    refused = doctor(address)
    assert refused.ok is False and "set RAY_AUTH_TOKEN" in refused.remedy
    # What `ray job submit` sets for the command it runs, and what KubeRay sets in its pods.
    job: dict[str, Any] = {"RAY_ADDRESS": address, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", **TOKEN}
    monkeypatch.delenv("RAY_TMPDIR")
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    said = doctor()
    assert said.ok is True
    assert said.detail == f"the cluster at {address} (RAY_ADDRESS): 1 node, 2 CPUs, 0 GPUs"
    sweep = start(spec, tmp_path, cache, executor="ray")
    _, error = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, error
    assert error.splitlines()[0] == f"Ray: {said.detail}"
    assert numbers(tmp_path / "out", spec) == numbers(expected, spec)
    assert process.poll() is None, "a cluster that was joined goes on"
    process.terminate()
    process.wait(60)
    begin = time.monotonic()
    gone = start(spec, tmp_path, cache, executor="ray")
    _, error = gone.communicate(timeout=120)
    assert gone.returncode == 2 and "Traceback" not in error
    assert re.search(f"RAY_ADDRESS {address}(: .* cannot be reached| cannot be joined)", error)
    assert time.monotonic() - begin < 60


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    importlib.util.find_spec("aiohttp_cors") is None, reason="clusters take jobs with ray[default]"
)
def test_a_sweep_inside_a_ray_job_joins_its_cluster(
    finished: tuple[Path, RunSpec], ray_folder: Path, closed_port: int, tmp_path: Path,
    cache: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expected, spec = finished
    with socket.create_server(("127.0.0.1", 0)) as server:
        jobs = server.getsockname()[1]
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    head = start_head(ray_folder, closed_port, jobs=jobs, TCCLIP_CACHE=str(cache))
    try:
        submit = ["env", "PYTHONIOENCODING=utf-8", *RAY, "job", "submit"]
        submit += ["--address", f"http://127.0.0.1:{jobs}", "--"]
        out = tmp_path / "out"
        job = start(spec, tmp_path, cache, "--out", str(out), executor="ray", prefix=submit)
        text, error = job.communicate(timeout=400)
        assert job.returncode == 0, text + error
        assert re.search(r"^Ray: the cluster at \S+ \(RAY_ADDRESS\): 1 node, 2 CPUs", text, re.M)
        assert numbers(out, spec) == numbers(expected, spec)
    finally:
        head.terminate()
        head.wait(60)
