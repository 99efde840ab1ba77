"""How many seeds and videos are asked for: as many as give the power, by simulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from results.compare.power import _seeds, power
from tests.results.compare.test_compare import write_demo_run

Run = Callable[..., tuple[int, str, str]]
SEEDS = pd.Series([50.0, 51.0, 52.5])


def found(seeds: int, points: float, std: float, paired: bool) -> float:
    """How often a t-test finds a difference of `points`."""
    rng = np.random.default_rng(0)
    a = rng.normal(points, std if paired else std / 2**0.5, (seeds, 4000))
    b = rng.normal(0, std / 2**0.5, (seeds, 4000))
    test = ttest_1samp(a, 0) if paired else ttest_ind(a, b)
    return float((test.pvalue < 0.05).mean())


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("std", [0.5, 1.2])
def test_so_many_seeds_have_the_power_and_fewer_have_not(std: float, paired: bool) -> None:
    needed = _seeds(std, 0.5, paired)
    assert needed is not None
    assert 0.77 < found(needed, 0.5, std, paired) < 0.88
    assert found(3 * needed // 4, 0.5, std, paired) < 0.77


def test_videos_and_what_few_seeds_leave_open() -> None:
    drawn = np.random.default_rng(0).normal(0.0, 0.5, 20_000)
    one = power(0.5, SEEDS, pd.Series([50.0, 50.5, 51.0]), drawn, videos=1000)
    assert one.seed_std == pytest.approx(np.std([0.0, 0.5, 1.5], ddof=1))
    assert one.seeds is not None and one.seeds_at_most is not None
    assert one.seeds_at_most > 3 * one.seeds, "three seeds say little of their std"
    assert one.videos == pytest.approx(2.8016**2 * 1000, rel=0.03)
    half = power(0.25, SEEDS, pd.Series([50.0, 50.5, 51.0]), drawn, videos=1000)
    assert half.videos == pytest.approx(4 * one.videos, rel=1e-3)


def test_seeds_that_differ_are_not_paired_and_one_seed_says_nothing() -> None:
    other = pd.Series([40.0, 41.0, 42.5], [7, 8, 9])
    drawn = np.array([0.0, 1.0])
    one = power(0.5, SEEDS, other, drawn, videos=10)
    assert one.seed_std == pytest.approx(2**0.5 * SEEDS.std())
    single = power(0.5, SEEDS, pd.Series([50.0]), drawn, videos=10)
    assert (single.seed_std, single.seeds, single.seeds_at_most) == (None, None, None)
    far = power(0.001, SEEDS, other, drawn, videos=10)
    assert far.seeds is None and far.seed_std is not None


def test_the_command(tcclip: Run, recorded: Path, tmp_path: Path) -> None:
    base = ("compare", "tc_clip", "vifi_clip", "--protocol", "zero_shot", "--demo", "--out",
            recorded)  # fmt: skip
    assert "power" not in tcclip(*base)[1]
    code, text, _ = tcclip(*base, "--power", "0.5")
    assert code == 0 and "a difference of 0.5 points with 80 % power" in text.replace("\n", " ")
    (row,) = json.loads(tcclip(*base, "--power", "0.5", "--format", "json")[1])["differences"]
    own = row["power"]
    assert own["points"] == 0.5 and own["videos"] > 0 and own["seeds"] > 2
    assert f"{own['videos']:,}" in tcclip(*base, "--power", "0.5", "--format", "md")[1]
    for model in ("tc_clip", "vifi_clip"):
        write_demo_run(tmp_path, model)
    assert "2 first" in tcclip(*base[:-1], tmp_path, "--power", "0.5")[1], "of a single seed each"
    assert tcclip(*base, "--power", "0")[0] == 2
