"""Which frames of a video are used (SPEC 3).

F: frames in the file, T: frames a clip. All indices are in [0, F), int64, ascending.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcclip.config import Views
from tcclip.data.seeding import seeded_rng

Indices = NDArray[np.int64]


def segment_indices(total: int, frames: int, position: float = 0.5) -> Indices:
    """(T,) the frame at `position` (0 start, 1 end) of each of T equal segments of F frames."""
    interval = total / frames
    return (np.arange(frames) * interval + interval * position).astype(np.int64) % total


def train_indices(total: int, frames: int, rng: np.random.Generator) -> Indices:
    """(T,) one random frame of each of T segments of F // T frames, or all evenly if F < T.

    The published rule has a third branch, for F > T with F // T = 0: no such F exists.
    """
    interval = total // frames
    if interval == 0:
        return np.around(np.arange(frames) * (total / frames)).astype(np.int64) % total
    offsets = rng.integers(interval, size=frames)
    return (np.arange(frames) * interval + offsets) % total


def view_indices(total: int, frames: int, views: Views, seed: int, video: str) -> Indices:
    """(clips, T) frames of each temporal view of a test video; `video` is its unique name.

    Quirk ("published"): several views are drawn by the train rule, here seeded by (seed, video),
    so that a rerun is equal. "uniform" spreads them over each segment.
    """
    if views.clips > 1 and views.sampling == "published":
        rng = seeded_rng("views", seed, video)
        return np.stack([train_indices(total, frames, rng) for _ in range(views.clips)])
    positions = (np.arange(views.clips) + 0.5) / views.clips
    return np.stack([segment_indices(total, frames, float(position)) for position in positions])
