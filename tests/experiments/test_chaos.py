"""The short form of `make chaos`: six small runs in one process that is killed again and again."""

from pathlib import Path

from tests.chaos import SHORT, check


def test_a_sweep_killed_at_random_moments_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    chaos = check(tmp_path, kills=5, executor="local", seed=1, longest=12, settings=SHORT)
    assert chaos.killed == ["sweep"] * 5
