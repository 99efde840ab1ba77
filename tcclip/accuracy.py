"""When a video counts as classified correctly: one rule for measured and for stored scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_k_correct(
    scores: NDArray[np.float32], labels: NDArray[np.int64], readable: NDArray[np.bool_], k: int
) -> NDArray[np.bool_]:
    """(videos,): whether the label is among the k best of `scores` (videos, classes).

    Equal scores are ordered by class id, lowest first. A video that was not `readable` is wrong.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    lower_id = np.arange(scores.shape[1])[None] < labels[:, None]
    rank = ((scores > own) | ((scores == own) & lower_id)).sum(axis=1)
    hits: NDArray[np.bool_] = (rank < k) & readable
    return hits
