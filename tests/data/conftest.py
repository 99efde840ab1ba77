"""Videos and lists that the data room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tcclip.data import moving_shapes

SHARED = Path(os.environ.get("TCCLIP_SHARED", Path(__file__).parents[2].parent / "shared"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shapes(request: pytest.FixtureRequest) -> Path:
    """The embedded data set, made once in pytest's own cache folder."""
    return moving_shapes.make(request.config.cache.mkdir("videos") / "moving_shapes")


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
