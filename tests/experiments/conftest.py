"""A finished run that several tests look at."""

import shutil
from pathlib import Path

import pytest

from experiments.grid.spec import RunSpec
from tests.conftest import Shared
from tests.experiments.sweeping import run_sweep, small_specs


@pytest.fixture(scope="session")
def finished(shared: Shared, cache: Path) -> tuple[Path, RunSpec]:
    """A finished run nobody may change, made once for all processes of the tests."""
    (spec,) = small_specs()

    def build(out: Path) -> None:
        assert run_sweep([spec], out, cache).exit_code == 0

    return shared("finished", build), spec


@pytest.fixture
def again(
    finished: tuple[Path, RunSpec], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, RunSpec]:
    """A copy of the finished run, to be changed; commands read the lists that it has read."""
    out, spec = finished
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    shutil.copytree(out, tmp_path / "out")
    return tmp_path / "out", spec


@pytest.fixture(autouse=True)
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page at a sweep's end has none: they take seconds, and tests/results tests them."""
    for part in ("_few_shot", "_curves", "_classes"):
        monkeypatch.setattr(f"results.tables.html.{part}", lambda *_: [])
