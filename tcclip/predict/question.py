"""What is asked of every video, and how its scores become an answer.

Shape legend: w windows of a video, n classes, b background texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tcclip.config import Views
from tcclip.evaluate import EvalList
from tcclip.model.tokens import normalise_name
from tcclip.predict.calibration import Calibration
from tcclip.predict.prediction import ClassProbability, Prediction, Window
from tcclip.predict.reading import Block
from tcclip.predict.windows import Timeline

#: In a template, what the class's name takes the place of.
NAME = "{}"
ONE_VIEW = Views()
#: A `reject` that stands for the threshold that was calibrated.
CALIBRATED = "calibrated"
#: What tells a video that shows none of the classes: texts, a threshold, CALIBRATED.
Reject = str | float | Sequence[str | float] | None


@dataclass(frozen=True)
class Question:
    """`classes`: what to choose from. `templates`: texts with {} for the class's name, whose logits
    are averaged. `background`: texts for videos that show none of them; `threshold`: the best
    probability that such a video does not reach. `top`: how many classes are named.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    threshold: float | None = None
    top: int = 5
    views: Views = ONE_VIEW
    timeline: Timeline | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top {self.top}: at least one class has to be named")
        for template in self.templates:
            if template.count(NAME) != 1:
                raise ValueError(f"prompt {template!r}: write {NAME} once, where the class goes")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"reject {self.threshold}: a threshold is a probability, 0 to 1")
        distinct((*self.classes, *self.background))

    @property
    def scored(self) -> EvalList:
        """The classes and background texts, as an evaluation scores them."""
        names = (*self.classes, *self.background)
        texts = None
        if self.templates:
            texts = tuple(
                tuple(t.replace(NAME, name) for t in self.templates) for name in self.classes
            )
            texts += tuple((text,) for text in self.background)
        return EvalList("", "", "", (), names, self.views, texts)

    def answer(
        self, video: str, blocks: Sequence[Block], scores: NDArray[np.float32]
    ) -> Prediction:
        """`scores` (w, n + b) of the windows that `blocks` hold."""
        probabilities: NDArray[np.floating] = scores / (self.views.clips * self.views.crops)
        if self.calibration is not None:
            probabilities = self.calibration.apply(probabilities)
        windows: list[Window] = []
        if self.timeline is not None:
            spans = [(span, block.rate or 1.0) for block in blocks for span in block.spans]
            for ((start, end), rate), row in zip(spans, probabilities, strict=True):
                windows.append(Window(start / rate, end / rate, self._top(row), self._rejects(row)))
        mean = probabilities.mean(0)
        return Prediction(
            video, self._top(mean), tuple(windows), self._rejects(mean),
            frames=blocks[0].total, scores=scores.mean(0),
        )  # fmt: skip

    def _top(self, row: NDArray[np.floating]) -> tuple[ClassProbability, ...]:
        own = row[: len(self.classes)]
        # Equal ones by their number, lowest first, as in evaluations.
        best = np.argsort(-own, kind="stable")[: self.top]
        return tuple(ClassProbability(self.classes[i], float(own[i])) for i in best)

    def _rejects(self, row: NDArray[np.floating]) -> bool | None:
        if self.threshold is None and not self.background:
            return None
        best = row[: len(self.classes)].max()
        too_low = self.threshold is not None and bool(best < self.threshold)
        return too_low or bool((row[len(self.classes) :] > best).any())


def distinct(names: Sequence[str]) -> list[str]:
    """The names; ValueError for two that the model reads as one."""
    known = sorted((normalise_name(name).lower(), name) for name in names)
    for (one, first), (other, second) in pairwise(known):
        if one == other:
            raise ValueError(f"{first!r} and {second!r} are one class to the model; drop one")
    return list(names)


def rejection(
    asked: Reject, calibration: Calibration | None
) -> tuple[tuple[str, ...], float | None]:
    """(background texts, threshold) of what is to be rejected: texts, at most one number, or
    "calibrated" for the calibrated threshold. ValueError for anything else."""
    if asked is None:
        return (), None
    values = [asked] if isinstance(asked, str | float | int) else list(asked)
    texts, thresholds = list[str](), list[float]()
    for value in values:
        if value == CALIBRATED and calibration is None:
            raise ValueError(
                f"reject {CALIBRATED!r}: these weights have not been calibrated; tcclip calibrate "
                "does that, or give a probability such as 0.5"
            )
        if value == CALIBRATED and calibration is not None:
            thresholds.append(calibration.threshold)
        elif isinstance(value, str):
            texts.append(value)
        else:
            thresholds.append(float(value))
    if len(thresholds) > 1:
        raise ValueError(f"reject {values}: give one threshold")
    return tuple(texts), thresholds[0] if thresholds else None
