"""What is said of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ClassProbability(NamedTuple):
    """A class and its probability, 0 to 1."""

    name: str
    probability: float


@dataclass(frozen=True)
class Window:
    """A part of a video: from second `start` to `end`; frames where the rate is not known."""

    start: float
    end: float
    top: tuple[ClassProbability, ...]
    rejected: bool | None = None


@dataclass(frozen=True)
class Prediction:
    """The classes of a video, most probable first.

    `top`: those that were asked for; over several windows their mean. `rejected`: whether it shows
    none of the classes; None if that was not asked for. `windows`: of a timeline, in their order.
    `error`: why the video could not be read; then nothing else is there. `scores` (classes,)
    float32: as an evaluation's, the sum over views of softmax(logits); over windows their mean.
    """

    video: str
    top: tuple[ClassProbability, ...] = ()
    windows: tuple[Window, ...] = ()
    rejected: bool | None = None
    error: str | None = None
    frames: int | None = None
    scores: NDArray[np.float32] | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON values: video, top, windows, rejected, error."""

        def listed(top: tuple[ClassProbability, ...]) -> list[dict[str, Any]]:
            return [{"class": one.name, "probability": one.probability} for one in top]

        windows = [
            {"start": w.start, "end": w.end, "top": listed(w.top), "rejected": w.rejected}
            for w in self.windows
        ]
        return {
            "video": self.video, "top": listed(self.top), "windows": windows,
            "rejected": self.rejected, "error": self.error,
        }  # fmt: skip
