"""The statistics of the tables: mean and std over a named axis, harmonic mean, chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Axis = Literal["splits", "base splits", "single run", "seeds"]

#: Seeds are a sample of all seeds: their std is the sample std, whatever the paper's is.
SEEDS_DDOF = 1


@dataclass(frozen=True)
class Estimate:
    """A mean and its std, in percent, over `n` values along `axis`.

    `std` is None where it is not defined: a single value, a harmonic mean, a single run.
    """

    mean: float
    std: float | None
    n: int
    ddof: int
    axis: Axis


def std(values: Sequence[float], ddof: int) -> float | None:
    """The std of `values` with divisor n - ddof; None for fewer than two values, never 0 or nan."""
    n = len(values)
    if n < 2 or n <= ddof:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - ddof))


def estimate(values: Sequence[float], *, axis: Axis, ddof: int) -> Estimate:
    """Mean and std of `values`, at least one, along `axis`."""
    mean = math.fsum(values) / len(values)
    return Estimate(mean, std(values, ddof), len(values), ddof, axis)


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b) of two percentages; 0 as soon as one of them is 0."""
    return 0.0 if a == 0 or b == 0 else 2 * a * b / (a + b)


def chance_level(classes: int, k: int = 1) -> float:
    """Top-k accuracy of guessing among `classes`, in percent."""
    return 100.0 * min(k, classes) / classes
