"""What video-conditional prompting does to the classes' scores.

Shape legend: n classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcclip.model import Model

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ClassScores:
    """One video's logits (n,) for classes called `names`. `unprompted`: the same where the prompt
    vectors stay as they were learned, whatever the video shows; None in a model without
    video-conditional prompting."""

    names: tuple[str, ...]
    logits: Floats
    unprompted: Floats | None = None

    @property
    def probabilities(self) -> Floats:
        """(n,): softmax of the logits."""
        return softmax(self.logits)

    @property
    def gains(self) -> Floats | None:
        """(n,): probability with prompting minus probability without."""
        return None if self.unprompted is None else self.probabilities - softmax(self.unprompted)

    def best(self, count: int) -> list[int]:
        """The most probable classes, best first."""
        return [int(one) for one in np.argsort(-self.logits, kind="stable")[:count]]

    def most_changed(self, count: int) -> list[int]:
        """The classes whose probability prompting changes most, most first."""
        if self.gains is None:
            return []
        return [int(one) for one in np.argsort(-np.abs(self.gains), kind="stable")[:count]]


def softmax(logits: Floats) -> Floats:
    """(n,) -> (n,)."""
    powers = np.exp(logits - logits.max())
    probabilities: Floats = powers / powers.sum()
    return probabilities


def class_scores(model: Model, names: tuple[str, ...], score: Callable[[], Tensor]) -> ClassScores:
    """`score` gives the model's logits (n,) for a video; it is asked twice, the second time
    without video-conditional prompting, if the model has it."""
    logits = score().float().cpu().numpy()
    if not model.config.prompted_layers:
        return ClassScores(names, logits)
    with _unprompted(model):
        return ClassScores(names, logits, score().float().cpu().numpy())


@contextmanager
def _unprompted(model: Model) -> Iterator[None]:
    """The prompt vectors pass the video-conditional layers unchanged."""

    def pass_on(module: torch.nn.Module, args: tuple[Tensor, Tensor], out: Tensor) -> Tensor:
        return args[0].expand_as(out)

    hooks = [one.register_forward_hook(pass_on) for one in model.text.prompters]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
