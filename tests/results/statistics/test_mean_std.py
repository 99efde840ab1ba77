"""ddof, n and undefined stds against cases computed by hand; the harmonic mean at 0."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.statistics.mean_std import chance_level, estimate, harmonic_mean

PERCENT = st.floats(0, 100)


def test_population_and_sample_std_by_hand() -> None:
    # Mean 4, squared deviations 4 + 0 + 4 = 8.
    population = estimate([2.0, 4.0, 6.0], axis="splits", ddof=0)
    assert (population.mean, population.n) == (4.0, 3)
    assert population.std == pytest.approx(math.sqrt(8 / 3))
    assert estimate([2.0, 4.0, 6.0], axis="seeds", ddof=1).std == pytest.approx(2.0)
    assert estimate([5.0, 5.0, 5.0], axis="splits", ddof=0).std == 0.0


@pytest.mark.parametrize(("a", "b", "hm"), [(0, 50, 0), (50, 0, 0), (0, 0, 0), (40, 60, 48)])
def test_harmonic_mean(a: float, b: float, hm: float) -> None:
    assert harmonic_mean(a, b) == pytest.approx(hm)


@given(PERCENT, PERCENT)
def test_the_harmonic_mean_is_symmetric_and_between(a: float, b: float) -> None:
    value = harmonic_mean(a, b)
    assert value == harmonic_mean(b, a)
    assert min(a, b) - 1e-9 <= value <= max(a, b) + 1e-9 or value == 0


def test_chance() -> None:
    assert chance_level(16) == 6.25
    assert chance_level(3, 5) == 100.0
