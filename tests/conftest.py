"""Shared by all tests: nothing may reach for the network or the user's own folders."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

import cli
from tcclip.data import moving_shapes
from tests.places import SHARED

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)
for _name in [one for one in os.environ if one.startswith("RAY_AU") or one == "RAY_ADDRESS"]:
    del os.environ[_name]
# One thread a process: those of several processes would wait for each other most of the time.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# No test is timed: machines are not always equally fast.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture
def tcclip(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: its exit status, what it prints, and to stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tcclip", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            sys.exit(cli.main())
        code = stop.value.code or 0
        return (code if isinstance(code, int) else 1, *capsys.readouterr())

    return run


@pytest.fixture(scope="session", autouse=True)
def ray_folder() -> Iterator[Path]:
    """Ray's own folder for the tests: clusters of this machine's users are never joined."""
    folder = Path(tempfile.mkdtemp(prefix="ray-t", dir="/tmp"))
    os.environ["RAY_TMPDIR"] = str(folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def closed_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Path:
    """A cache folder with the embedded videos, made once in pytest's own cache folder."""
    folder: Path = request.config.cache.mkdir("videos")
    moving_shapes.ensure_built(folder / "moving_shapes")
    return folder


@pytest.fixture(scope="session")
def shapes(request: pytest.FixtureRequest) -> Path:
    """The embedded data set, made once in pytest's own cache folder."""
    return moving_shapes.ensure_built(request.config.cache.mkdir("videos") / "moving_shapes")


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Real clips of the published data sets; they are not part of the project."""
    folder = SHARED / "videos"
    if not folder.is_dir():
        pytest.skip("no folder of real clips (TCCLIP_SHARED)")
    return folder


@pytest.fixture(scope="session")
def published_annotations() -> Path:
    """A copy of the published annotation set; it is not part of the project."""
    folder = SHARED / "annotations"
    if not folder.is_dir():
        pytest.skip("no copy of the published annotations (TCCLIP_SHARED)")
    return folder
