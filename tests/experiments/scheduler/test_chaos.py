"""The short form of `make chaos`: small runs in one process that is killed again and again."""

from pathlib import Path

import pytest

from tests.chaos import SHORT, check


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_killed_at_random_moments_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    chaos = check(tmp_path, kills=2, executor="local", seed=1, longest=12, grid=SHORT)
    assert chaos.killed == ["sweep"] * 2
    assert chaos.runs == 3
