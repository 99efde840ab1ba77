"""A finished run that several tests look at."""

import shutil
from pathlib import Path

import pytest

from experiments.grid.spec import RunSpec
from tests.experiments.sweeping import run_sweep, small_specs


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, RunSpec]:
    """A finished run nobody may change."""
    out = tmp_path_factory.mktemp("finished")
    (spec,) = small_specs()
    assert run_sweep([spec], out, cache).exit_code == 0
    return out, spec


@pytest.fixture
def again(finished: tuple[Path, RunSpec], tmp_path: Path) -> tuple[Path, RunSpec]:
    """A copy of the finished run, to be changed."""
    out, spec = finished
    shutil.copytree(out, tmp_path / "out")
    return tmp_path / "out", spec
