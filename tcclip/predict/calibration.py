"""How much a model's probabilities can be trusted: temperature, threshold, calibration error.

Shape legend: N videos, n classes. Probabilities are means over views, rows sum to 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
#: A softmax in float32 may give 0.
_TINY = 1e-38
#: Temperatures that are tried: 0.05 to 20, in steps of a percent.
_TEMPERATURES = np.geomspace(0.05, 20.0, 602)
BINS = 15
#: Ending of the file beside a file of weights.
SUFFIX = ".calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Measured on a list of videos whose classes are known.

    `temperature` T: probabilities become softmax(log(p) / T), which for one view is
    softmax(logits / T). `threshold`: below this best probability, a video is said to show none of
    the classes; a share `kept` of the right answers reach it, and `kept_wrong` of the wrong ones.
    `ece_before`, `ece_after`: expected calibration error, 0 to 1, see `expected_calibration_error`;
    `nll_...`: mean negative log likelihood. `top1`: percent. `data`: what it was measured on, in
    words; `views`, `ensemble`: with which views and weights, see `tcclip.load`.
    """

    temperature: float
    threshold: float
    kept: float
    kept_wrong: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    top1: float
    videos: int
    data: str
    views: str
    ensemble: float | None = None

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3g}, measured on {self.videos} videos of {self.data}"
        )

    def apply(self, probabilities: Floats) -> NDArray[np.float64]:
        """Probabilities (..., n) -> calibrated ones."""
        return tempered(probabilities, self.temperature)

    @classmethod
    def read(cls, path: Path) -> Calibration | None:
        """What was kept as JSON; None without the file. ValueError for a damaged one."""
        if not path.is_file():
            return None
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found = cls(**content)
            if not (found.temperature > 0 and 0 <= found.threshold <= 1):
                raise ValueError("temperature and threshold are out of range")
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); make it again with tcclip calibrate, or delete it"
            ) from error
        return found


def calibrate(
    probabilities: Floats,
    labels: NDArray[np.int64],
    *,
    keep: float,
    data: str,
    views: str,
    ensemble: float | None = None,
) -> Calibration:
    """The temperature that makes `labels` (N,) likeliest under `probabilities` (N, n), and the
    threshold that `keep` of the right answers reach.

    ValueError without a video, with one class, or if no answer is right.
    """
    if not len(labels) or probabilities.shape[1] < 2:
        raise ValueError("calibration needs videos of at least two classes")
    if not 0 < keep <= 1:
        raise ValueError(f"keep {keep} is not a share of the right answers: above 0, at most 1")
    losses = [_nll(tempered(probabilities, t), labels) for t in _TEMPERATURES]
    temperature = float(_TEMPERATURES[int(np.argmin(losses))])
    after = tempered(probabilities, temperature)
    right = probabilities.argmax(1) == labels
    if not right.any():
        raise ValueError("no video is classified right: is it the right list for this checkpoint?")
    # The lowest of the kept, itself among them.
    sure = np.sort(after.max(1)[right])[::-1]
    threshold = float(sure[max(0, int(np.ceil(keep * len(sure))) - 1)])
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        kept=float((sure >= threshold).mean()),
        kept_wrong=float((after.max(1)[~right] >= threshold).mean()) if not right.all() else 0.0,
        ece_before=expected_calibration_error(probabilities, labels),
        ece_after=expected_calibration_error(after, labels),
        nll_before=_nll(probabilities.astype(np.float64), labels),
        nll_after=min(losses),
        top1=100.0 * float(right.mean()),
        videos=len(labels),
        data=data,
        views=views,
        ensemble=ensemble,
    )


def tempered(probabilities: Floats, temperature: float) -> NDArray[np.float64]:
    """softmax(log(p) / temperature) over the last axis."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) / temperature
    logits -= logits.max(-1, keepdims=True)
    found = np.exp(logits)
    return np.asarray(found / found.sum(-1, keepdims=True))


def expected_calibration_error(
    probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS
) -> float:
    """|accuracy - mean confidence| of the videos in each of `bins` equal ranges of confidence,
    weighted by how many they are (Guo et al., 2017, arXiv:1706.04599). 0 to 1."""
    confidence = probabilities.max(1).astype(np.float64)
    right = (probabilities.argmax(1) == labels).astype(np.float64)
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(which, right, bins) - np.bincount(which, confidence, bins)
    return float(np.abs(gaps).sum() / len(labels))


def _nll(probabilities: Floats, labels: NDArray[np.int64]) -> float:
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, _TINY)).mean())
