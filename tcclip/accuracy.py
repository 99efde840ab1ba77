"""When a video counts as classified rightly: one rule, for what is measured and what is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def correct(
    scores: NDArray[np.float32], labels: NDArray[np.int64], readable: NDArray[np.bool_], k: int
) -> NDArray[np.bool_]:
    """(videos,): whether the label is among the k best of `scores` (videos, classes).

    Equal scores are ordered by class id, lowest first, so that the answer is determined. A video
    that was not `readable` is wrong.
    """
    wanted = labels[:, None]
    own = np.take_along_axis(scores, wanted, axis=1)
    before = np.arange(scores.shape[1])[None] < wanted
    rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    right: NDArray[np.bool_] = (rank < k) & readable
    return right
