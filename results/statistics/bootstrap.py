"""Paired bootstrap over videos, and over seeds where there are several.

A video is drawn with all its occurrences: it may be in several splits' lists, and it is scored by
every seed's model of both sides. So both sides see the same draws, and splits that share videos
do not count as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Resamples drawn at once: bounds the memory, changes no number's distribution.
_CHUNK = 128


@dataclass(frozen=True)
class Scored:
    """One side's outcomes in one column: `right` (seeds, units, videos), 1 where classified right.

    `there` (units, videos): whether the video is in the unit's list; the same on both sides.
    """

    seeds: tuple[int, ...]
    right: NDArray[np.float64]
    there: NDArray[np.float64]

    def means(self) -> NDArray[np.float64]:
        """(seeds,): percent right, averaged over the units."""
        totals = self.there.sum(axis=1)
        return 100.0 * (self.right.sum(axis=2) / totals).mean(axis=1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Resampled:
    """Percent right of both sides by resample, (resamples,) each, over the same drawn videos.

    `fixed`: averaged over the seeds there are. `seeds`: seeds drawn too; None with a single one
    on either side.
    """

    fixed: tuple[NDArray[np.float64], NDArray[np.float64]]
    seeds: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def resample(a: Scored, b: Scored, *, resamples: int, generator: np.random.Generator) -> Resampled:
    """Draw videos (and seeds) with replacement `resamples` times.

    Sides with the same seeds are paired by seed as well; others draw theirs independently.
    """
    import numpy as np

    by_seed = [
        np.concatenate(parts) for parts in zip(*_chunks(a, b, resamples, generator), strict=True)
    ]
    fixed = (by_seed[0].mean(axis=1), by_seed[1].mean(axis=1))
    if min(len(a.seeds), len(b.seeds)) < 2:
        return Resampled(fixed, None)
    weights_a = _seed_weights(len(a.seeds), resamples, generator)
    paired = a.seeds == b.seeds
    weights_b = weights_a if paired else _seed_weights(len(b.seeds), resamples, generator)
    drawn = ((by_seed[0] * weights_a).sum(axis=1), (by_seed[1] * weights_b).sum(axis=1))
    return Resampled(fixed, drawn)


def _chunks(
    a: Scored, b: Scored, resamples: int, generator: np.random.Generator
) -> Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(resamples, seeds) percent right of each side, a chunk of resamples at a time."""
    videos = a.there.shape[1]
    found = []
    for start in range(0, resamples, _CHUNK):
        counts = _draw(videos, min(_CHUNK, resamples - start), generator)
        totals = counts @ a.there.T
        found.append((_percent(a, counts, totals), _percent(b, counts, totals)))
    return found


def _draw(videos: int, resamples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(resamples, videos): how often each video is drawn in `videos` draws."""
    import numpy as np

    drawn = generator.integers(0, videos, (resamples, videos))
    drawn += videos * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * videos)
    return counts.reshape(resamples, videos).astype(np.float64)


def _percent(
    side: Scored, counts: NDArray[np.float64], totals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(resamples, seeds): mean over units of the percent right among the drawn videos."""
    import numpy as np

    # A unit of which no video was drawn (only with a handful of videos) counts as 0 of 1.
    totals = np.maximum(totals, 1.0)
    shares = [(counts @ right.T / totals).mean(axis=1) for right in side.right]
    return 100.0 * np.stack(shares, axis=1)


def _seed_weights(
    seeds: int, resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(resamples, seeds): the share of each seed among as many drawn ones."""
    return _draw(seeds, resamples, generator) / seeds


def interval(differences: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The percentile interval that holds the share `confidence` of the resamples."""
    import numpy as np

    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(differences, [tail, 100.0 - tail])
    return float(low), float(high)
