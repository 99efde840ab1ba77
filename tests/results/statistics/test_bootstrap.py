"""Paired bootstrap: against theory, and against cases made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from results.statistics.bootstrap import Scored, interval, resample

Bits = Sequence[int] | NDArray[np.int64]


def scored(right: Sequence[Sequence[Bits]], seeds: Sequence[int] | None = None) -> Scored:
    """`right` is (seeds, units, videos); every video is in every unit."""
    values = np.array(right, np.float64)
    return Scored(tuple(seeds or range(len(values))), values, np.ones(values.shape[1:]))


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(0))


def test_the_interval_is_the_normal_ones_for_many_videos() -> None:
    draws = generator()
    a = (draws.random(1000) < 0.6).astype(np.int64)
    b = np.where(draws.random(1000) < 0.8, a, 1 - a)
    drawn = resample(scored([[a]]), scored([[b]]), resamples=4000, generator=draws)
    low, high = interval(drawn.fixed[0] - drawn.fixed[1], 0.95)
    difference = a - b
    error = 196.0 * difference.std() / math.sqrt(len(a))
    assert (low + high) / 2 == pytest.approx(100 * difference.mean(), abs=0.15)
    assert (high - low) / 2 == pytest.approx(error, rel=0.05)


def test_pairing_makes_the_interval_of_equal_sides_empty() -> None:
    a = (generator().random(50) < 0.5).astype(np.int64)
    drawn = resample(scored([[a]]), scored([[a]]), resamples=500, generator=generator())
    assert interval(drawn.fixed[0] - drawn.fixed[1], 0.95) == (0.0, 0.0)


def test_a_video_in_three_splits_is_drawn_once_not_three_times() -> None:
    """The same list three times says no more than the list once."""
    draws = generator()
    a, b = (draws.random((2, 400)) < 0.5).astype(np.int64)
    once = resample(scored([[a]]), scored([[b]]), resamples=2000, generator=generator())
    thrice = resample(scored([[a] * 3]), scored([[b] * 3]), resamples=2000, generator=generator())
    assert np.allclose(once.fixed[0] - once.fixed[1], thrice.fixed[0] - thrice.fixed[1])


def test_seeds_are_drawn_where_there_are_several() -> None:
    always, never = [1] * 40, [0] * 40
    a, b = scored([[always], [never]]), scored([[never], [never]])
    drawn = resample(a, b, resamples=2000, generator=generator())
    assert interval(drawn.fixed[0] - drawn.fixed[1], 0.95) == (50.0, 50.0)
    assert drawn.seeds is not None
    # Both seeds, the good one twice, the bad one twice.
    assert set(np.round(drawn.seeds[0], 6)) == {0.0, 50.0, 100.0}
    assert resample(scored([[always]]), b, resamples=10, generator=generator()).seeds is None


def test_equal_seeds_are_paired_and_others_are_not() -> None:
    good, bad = [1] * 30, [0] * 30
    a = scored([[good], [bad]])
    paired = resample(a, scored([[good], [bad]]), resamples=500, generator=generator())
    apart = resample(a, scored([[good], [bad]], seeds=(5, 6)), resamples=500, generator=generator())
    assert paired.seeds is not None and apart.seeds is not None
    assert np.ptp(paired.seeds[0] - paired.seeds[1]) == 0
    assert np.ptp(apart.seeds[0] - apart.seeds[1]) == 200
