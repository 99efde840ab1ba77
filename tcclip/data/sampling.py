"""Which frames of a video are looked at (SPEC 3).

F: frames in the file, T: frames a clip. All indices are in [0, F), int64, ascending.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcclip.config import Views
from tcclip.data.draws import draws

Indices = NDArray[np.int64]


def _check(total: int, frames: int) -> None:
    if total < 1 or frames < 1:
        raise ValueError(f"cannot sample {frames} of {total} frames; both must be at least 1")


def eval_indices(total: int, frames: int) -> Indices:
    """(T,) middles of T equal segments of F = `total` frames."""
    return _segments(total, frames, 0.5)


def _segments(total: int, frames: int, place: float) -> Indices:
    """The frame at `place` (0 start, 1 end) of each of T equal segments."""
    _check(total, frames)
    interval = total / frames
    return (np.arange(frames) * interval + interval * place).astype(np.int64) % total


def train_indices(total: int, frames: int, rng: np.random.Generator) -> Indices:
    """(T,) one random frame of each of T segments of F // T frames, or all evenly if F < T.

    The published rule has a third branch, for F > T with F // T = 0: no such F exists.
    """
    _check(total, frames)
    interval = total // frames
    if interval == 0:
        return np.around(np.arange(frames) * (total / frames)).astype(np.int64) % total
    offsets = rng.integers(interval, size=frames)
    return (np.arange(frames) * interval + offsets) % total


def view_indices(total: int, frames: int, views: Views, seed: int, video: str) -> Indices:
    """(clips, T) frames of each temporal view of a test video; `video` is its identity.

    Quirk ("published"): several views are drawn by the train rule, here from the stream of
    (seed, video), so that a rerun is equal. "uniform" spreads them over each segment.
    """
    if views.clips > 1 and views.sampling == "published":
        rng = draws("views", seed, video)
        return np.stack([train_indices(total, frames, rng) for _ in range(views.clips)])
    places = (np.arange(views.clips) + 0.5) / views.clips
    return np.stack([_segments(total, frames, float(place)) for place in places])
