"""Other values for a model's parameters, for a while. The parameters stay the same tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tcclip.weights.parameter_names import is_clip_parameter


class Interpolation:
    """The trained parameters that CLIP has, `own`, and the values they `start` from."""

    def __init__(self, model: nn.Module, start: Mapping[str, Tensor]) -> None:
        """`start`: CLIP's weights under our names, on any device; copied to the model's."""
        named = {
            name: parameter.data
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and is_clip_parameter(name)
        }
        self.own = list(named.values())
        self.start = [start[name].to(own, copy=True) for name, own in named.items()]

    @contextmanager
    def at(self, share: float) -> Iterator[None]:
        """In the block, parameters are (1 - share) * trained + share * start, from 0 to 1."""
        if share == 0:
            yield
            return
        with _kept(self.own):
            torch._foreach_lerp_(self.own, self.start, share)
            yield


class WeightAverage:
    """The mean of a model's trained parameters at several times, equally weighted."""

    def __init__(self, model: nn.Module) -> None:
        self.own = [p.data for p in model.parameters() if p.requires_grad]
        self.mean = [torch.zeros_like(own) for own in self.own]
        self.count = 0

    def add(self) -> None:
        """Take the present parameters into the mean."""
        self.count += 1
        torch._foreach_lerp_(self.mean, self.own, 1 / self.count)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """In the block, the parameters are the mean, if there is one yet."""
        with _kept(self.own):
            self.use()
            yield

    def use(self) -> None:
        """The parameters are the mean from now on, if there is one yet."""
        if self.count:
            torch._foreach_copy_(self.own, self.mean)

    def state(self) -> dict[str, Any]:
        """What `restore` needs; tensors that change with the mean."""
        return {"count": self.count, "mean": self.mean}

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Whether a saved `state` is one of these parameters; LookupError, TypeError or
        AttributeError for what is no state."""
        return state["count"] >= 0 and [x.shape for x in state["mean"]] == [
            x.shape for x in self.mean
        ]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved `state`."""
        self.count = state["count"]
        for mean, saved in zip(self.mean, state["mean"], strict=True):
            mean.copy_(saved)


@contextmanager
def _kept(tensors: list[Tensor]) -> Iterator[None]:
    """After the block, the tensors are what they were, bit for bit."""
    before = [one.clone() for one in tensors]
    try:
        yield
    finally:
        torch._foreach_copy_(tensors, before)
