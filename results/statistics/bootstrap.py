"""Paired bootstrap over videos, and over seeds where there are several.

A video is drawn with all its occurrences: it may be in several splits' lists, and it is scored by
every seed's model of both methods. So both see the same draws, and splits that share videos do
not count as independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Resamples drawn at once: bounds the memory, changes no number's distribution.
_CHUNK = 128


@dataclass(frozen=True)
class Scored:
    """One method's outcomes in a column: `right` (seeds, units, videos), 1 where classified right.

    `there` (units, videos): whether the video is in the unit's list; the same for both methods.
    """

    seeds: tuple[int, ...]
    right: NDArray[np.float64]
    there: NDArray[np.float64]

    def percent(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(draws, seeds): percent right, averaged over the units.

        `counts` (draws, videos): how often each video counts.
        """
        # A unit of which no video was drawn (only with a handful of videos) counts as 0 of 1.
        totals = np.maximum(counts @ self.there.T, 1.0)
        shares = [(counts @ right.T / totals).mean(axis=1) for right in self.right]
        return 100.0 * np.stack(shares, axis=1)


@dataclass(frozen=True)
class Resampled:
    """(2, resamples): percent right of both methods by resample, over the same drawn videos.

    `fixed`: averaged over the seeds there are. `seeds`: seeds drawn too; None where one method
    has a single seed.
    """

    fixed: NDArray[np.float64]
    seeds: NDArray[np.float64] | None


def resample(a: Scored, b: Scored, *, resamples: int, generator: np.random.Generator) -> Resampled:
    """Draw videos (and seeds) with replacement `resamples` times.

    Methods with the same seeds are paired by seed as well; others draw theirs independently.
    """
    videos = a.there.shape[1]
    chunks = []
    for start in range(0, resamples, _CHUNK):
        counts = _draw(videos, min(_CHUNK, resamples - start), generator)
        chunks.append((a.percent(counts), b.percent(counts)))
    of_a, of_b = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    fixed = np.stack([of_a.mean(axis=1), of_b.mean(axis=1)])
    if min(len(a.seeds), len(b.seeds)) < 2:
        return Resampled(fixed, None)
    weights_a = _draw(len(a.seeds), resamples, generator) / len(a.seeds)
    weights_b = weights_a
    if a.seeds != b.seeds:
        weights_b = _draw(len(b.seeds), resamples, generator) / len(b.seeds)
    seeds = np.stack([(of_a * weights_a).sum(axis=1), (of_b * weights_b).sum(axis=1)])
    return Resampled(fixed, seeds)


def _draw(items: int, resamples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(resamples, items): how often each item is drawn in `items` draws."""
    drawn = generator.integers(0, items, (resamples, items))
    drawn += items * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * items)
    return counts.reshape(resamples, items).astype(np.float64)


def interval(differences: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The percentile interval that holds the share `confidence` of the resamples."""
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(differences, [tail, 100.0 - tail])
    return float(low), float(high)
