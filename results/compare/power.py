"""How many seeds, and how many test videos, would show a difference of a given size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist, variance

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: Of a two-sided test: the chance to find a difference that is there, and one that is not.
POWER, ERROR = 0.8, 0.05
#: The share of cases in which the std by seed is at most the one `seeds_at_most` goes by.
SURE = 0.9
#: More seeds are not asked for.
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Power:
    """What would show a difference of `points`, from the runs at hand.

    `seed_std`: of one seed's difference, on the test videos there are; `seeds` of each method would
    do if that is right, `seeds_at_most` if it is as large as so few seeds leave open. None with a
    single seed, or where more than `MOST_SEEDS` are needed. `video_std`: of the difference over
    other videos, of the seeds there are; so many `videos` would do.
    """

    points: float
    seed_std: float | None
    seeds: int | None
    seeds_at_most: int | None
    video_std: float
    videos: int


def power(
    points: float,
    a: pd.Series[float],
    b: pd.Series[float],
    over_videos: NDArray[np.float64],
    videos: int,
) -> Power:
    """`a`, `b`: seed -> percent; `over_videos`: the difference in every resample of `videos`.

    Seeds that both have are compared pair by pair, as far as there are two.
    """
    common = (a - b).dropna().tolist()
    paired = len(common) > 1
    std, freedom = None, 0
    if paired:
        std, freedom = math.sqrt(variance(common)), len(common) - 1
    elif min(len(a), len(b)) > 1:
        std = math.sqrt(variance(a.tolist()) + variance(b.tolist()))
        freedom = len(a) + len(b) - 2
    found: list[int | None] = [None, None]
    if std is not None:
        from scipy.special import chdtri

        largest = std * math.sqrt(freedom / chdtri(freedom, SURE))
        found = [_seeds(one, points, paired) for one in (std, largest)]
    video_std = float(np.std(over_videos, ddof=1))
    normal = NormalDist()
    sigmas = normal.inv_cdf(1 - ERROR / 2) + normal.inv_cdf(POWER)
    needed = math.ceil(videos * (sigmas * video_std / points) ** 2)
    return Power(points, std, found[0], found[1], video_std, max(needed, 1))


def _seeds(std: float, points: float, paired: bool) -> int | None:
    """The fewest seeds of each method, of a t-test; None: more than `MOST_SEEDS`."""
    from scipy.special import stdtrit

    seeds = np.arange(2, MOST_SEEDS + 1)
    freedom = seeds - 1 if paired else 2 * seeds - 2
    shown = (stdtrit(freedom, 1 - ERROR / 2) + stdtrit(freedom, POWER)) * std / np.sqrt(seeds)
    enough = np.flatnonzero(shown <= points)
    return int(seeds[enough[0]]) if len(enough) else None
