"""Shared by all tests: nothing may reach for the network or the user's own folders."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from tcclip.data import moving_shapes
from tests.places import SHARED

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)
# One thread a process: those of several processes would wait for each other most of the time.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# No test is timed: machines are not always equally fast.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


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
