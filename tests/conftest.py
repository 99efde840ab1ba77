"""Shared by all tests: nothing may reach for the network or the user's own folders."""

import os
from pathlib import Path

import pytest

from tcclip.data import moving_shapes

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Path:
    """A cache folder with the embedded videos, made once in pytest's own cache folder."""
    folder: Path = request.config.cache.mkdir("videos")
    moving_shapes.make(folder / "moving_shapes")
    return folder
