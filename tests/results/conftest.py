"""The recorded runs, for tests that only read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.results import recorded_runs


@pytest.fixture(scope="module")  # one of them runs, by a heartbeat that must not grow old
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    recorded_runs.write(folder)
    return folder
