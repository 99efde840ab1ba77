"""Shared by all tests: nothing may reach for the network or the user's own folders."""

import fcntl
import functools
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
import typer

import cli
from experiments.datasets.paths import DataPaths
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
Shared = Callable[[str, Callable[[Path], object]], Path]
#: Of these lists of the embedded videos every so many-th line makes a small run.
SHORTER = {"train": 2, "val": 2, "unseen1": 4, "unseen2": 4, "unseen3": 4}
# The options of all commands are read once, and not at every call of one.
typer.main.get_command = functools.cache(typer.main.get_command)
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
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Makes a folder once for all processes of the tests; nobody may change it."""
    base = tmp_path_factory.getbasetemp()
    # Under pytest-xdist each process has a folder of its own in that of the tests.
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, build: Callable[[Path], object]) -> Path:
        with (base / f"{name}.made").open("a+") as made:
            fcntl.flock(made, fcntl.LOCK_EX)
            made.seek(0)
            if not made.read():
                build(base / name)
                made.write("yes")
        return base / name

    return make


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest, shared: Shared, shapes: Path) -> Path:
    """A cache folder with the embedded videos in short lists: most of a small run is its videos.

    192 to train on, 48 to validate and three times 16 to test, of every class as many.
    """

    def build(folder: Path) -> None:
        own = folder / "moving_shapes"
        shutil.copytree(shapes, own, ignore=shutil.ignore_patterns("videos"))
        (own / "videos").symlink_to(shapes / "videos")
        for split, step in SHORTER.items():
            path = own / "splits" / f"{split}.txt"
            path.write_text("".join(path.read_text().splitlines(keepends=True)[::step]))
        frames = DataPaths(cache=folder).frames
        kept: Path = request.config.cache.mkdir("frames")
        frames.symlink_to(kept)

    return shared("cache", build)


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
