"""A finished run that several tests look at."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from experiments.grid.spec import RunSpec
from tests.experiments.sweeping import run_sweep, small_specs


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, RunSpec]:
    """A finished run nobody may change, made once for all processes of the tests."""
    temporary = tmp_path_factory.getbasetemp()
    # Under pytest-xdist each process has a folder of its own in that of the tests.
    out = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "finished"
    (spec,) = small_specs()
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A sweep leaves alone what is finished.
        assert run_sweep([spec], out, cache).exit_code == 0
    return out, spec


@pytest.fixture
def again(finished: tuple[Path, RunSpec], tmp_path: Path) -> tuple[Path, RunSpec]:
    """A copy of the finished run, to be changed."""
    out, spec = finished
    shutil.copytree(out, tmp_path / "out")
    return tmp_path / "out", spec
