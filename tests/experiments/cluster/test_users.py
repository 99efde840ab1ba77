"""Another user of the machine: a sweep of theirs, and their tries to get into one's own Ray."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from tests.experiments.scheduler.test_ray import holder
from tests.experiments.scheduler.test_signals import start, steps, wait_for
from tests.experiments.sweeping import copy_cache, numbers
from tests.places import ROOT

NOBODY, DAEMON = 65534, 1
#: Tries as a driver to have something run in the Ray at the address that is its argument.
JOIN = """
import os, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
print("IN, as user", ray.get(ray.remote(os.getuid).remote(), timeout=30))
"""


def as_user(uid: int, keep: Path) -> list[str]:
    """What to put before a command for another user to run it, in a home that is read-only."""
    home, lines = Path.home(), [f"mkdir -p {keep}"]
    kept = [one for one in (Path(sys.base_prefix), ROOT) if one.is_relative_to(home)]
    for number, path in enumerate(kept):
        lines.append(f"mkdir -p {keep}/{number}; mount --bind {path} {keep}/{number}")
    lines.append(f"mount -t tmpfs -o mode=755 tmpfs {home}")
    for number, path in enumerate(kept):
        lines.append(f"mkdir -p {path}; mount --bind {keep}/{number} {path}")
    become = f"exec setpriv --reuid={uid} --regid={uid} --clear-groups"
    script = "\n".join([*lines, f'{become} "$@"'])
    return ["unshare", "-m", "bash", "-ec", script, "bash"]


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of theirs, which everybody may read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs root")
def test_another_users_sweep_ends_well_and_lets_nobody_in(
    finished: tuple[Path, RunSpec], theirs: Path, tmp_path: Path, cache: Path
) -> None:
    expected, spec = finished
    copy_cache(cache, theirs / "cache", decoded=False)
    for path in (theirs, *theirs.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    user = as_user(NOBODY, tmp_path / "kept")
    # Ray's folder of these tests is root's.
    sweep = start(spec, theirs, theirs / "cache", executor="ray", prefix=user)
    wait_for(sweep, theirs / "out", spec, 3)
    worker = psutil.Process(holder(Ledger(theirs / "out").folder(spec.run_id), sweep).pid)
    worker.suspend()
    parts = psutil.Process(sweep.pid).children(recursive=True)
    (head,) = [one for one in parts if one.name() == "gcs_server"]
    assert head.uids().real == NOBODY
    sockets = {
        one.laddr for part in parts for one in part.net_connections()
        if one.status == psutil.CONN_LISTEN
    }  # fmt: skip
    assert {one.ip for one in sockets} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    commands = " ".join(part for one in parts for part in one.cmdline())
    (address,) = set(re.findall(r"--gcs-address=(127\.0\.0\.1:\d+)", commands))
    folder = re.search(r"(/\S*tcclip-[^/]+)/ray", " ".join(head.cmdline()))
    assert folder is not None and Path(folder[1]).stat().st_mode & 0o777 == 0o700
    other = as_user(DAEMON, tmp_path / "kept")
    for tried in (["ls", folder[1]], ["cat", f"/proc/{head.pid}/environ"]):
        done = subprocess.run([*other, *tried], check=False, capture_output=True, text=True)
        assert "Permission denied" in done.stderr and not done.stdout
    # Left alone, Ray asks at the machine's own address in place of 127.0.0.1: nobody is there.
    for mode in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}):
        done = subprocess.run(
            [*other, sys.executable, "-c", JOIN, address], check=False, cwd="/",
            capture_output=True, text=True, timeout=200,
            env={**os.environ, "RAY_gcs_server_port_wait_time_s": "3",
                 "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **mode},
        )  # fmt: skip
        assert "token is missing or incorrect" in done.stderr and "IN" not in done.stdout
    worker.resume()
    _, error = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, error
    assert "files in /tmp; RAY_TMPDIR=" in error and "cannot be used: Permission denied" in error
    assert steps(theirs / "out", spec) == list(range(1, 13))
    assert numbers(theirs / "out", spec) == numbers(expected, spec)
