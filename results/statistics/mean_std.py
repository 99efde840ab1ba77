"""The statistics of the tables: mean and std over a named axis, harmonic mean, chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


def estimate(values: Sequence[float], *, axis: Axis, ddof: int) -> Estimate:
    """Mean and std (divisor n - ddof) of `values`, at least one, along `axis`."""
    n, mean, std = len(values), math.fsum(values) / len(values), None
    if n > 1:
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - ddof))
    return Estimate(mean, std, n, ddof, axis)


def harmonic_mean(a: Any, b: Any) -> Any:
    """2ab / (a + b) of two percentages, or arrays of them; 0 as soon as one of them is 0."""
    # `tcclip --help` reads this module.
    import numpy as np

    # The least sum makes 0 of 0 / 0.
    return 2 * a * b / np.maximum(a + b, 1e-9)


def chance_level(classes: int, k: int = 1) -> float:
    """Top-k accuracy of guessing among `classes`, in percent."""
    return 100.0 * min(k, classes) / classes
