"""What a forward and a training step ask of the device, counted on fake tensors at full size."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tcclip.config import ModelConfig
from tcclip.model import Model, vision
from tcclip.model.merging.gpu import KernelMatch
from tcclip.model.vision import take_patches

#: Sorting is what selecting seeds (once a layer) and matching (nine steps a layer) are made of.
SORTS = 12 * (1 + 9)


class Count(TorchDispatchMode):
    """ATen operators and our own by name, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("aten", "tcclip"):
            self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def of(self, *parts: str) -> int:
        return sum(n for name, n in self.calls.items() if any(part in name for part in parts))


def count(training: bool) -> Count:
    """A forward pass of two videos, in training with its backward pass."""
    with FakeTensorMode():
        model = Model(ModelConfig(name="tc_clip", num_frames=16)).train(training)
        model.set_class_names([f"class {i}" for i in range(51)])
        video = torch.empty(2, 16, 3, 224, 224)
        with torch.set_grad_enabled(training), Count() as count:
            logits = model(video).logits
            if training:
                logits.sum().backward()
    assert count.of("scatter", "index_put", "index_add", "embedding_dense", "index_copy") == 0
    return count


@pytest.mark.parametrize(("training", "most"), [(False, 4_700), (True, 8_200)])
def test_a_step_sorts_no_more_than_it_selects(training: bool, most: int) -> None:
    counted = count(training)
    assert counted.of("sort", "topk", "unique") == SORTS
    assert sum(counted.calls.values()) <= most


def test_with_kernels_a_layer_matches_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: a third of the 8,647 operators there were, of sorts the selection of seeds."""
    operator = pytest.importorskip("tcclip.model.merging.operator", exc_type=ImportError)
    monkeypatch.setattr(
        vision, "kernel_match", lambda x, n, steps: KernelMatch(operator.match, steps)
    )
    counted = count(training=False)
    assert counted.calls["match"] == 12
    assert counted.of("sort", "topk", "unique") == 12
    assert sum(counted.calls.values()) <= 2_300


def test_taking_patches_has_the_gradient_of_a_gather() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    index = torch.rand(2, 3, 5, generator=generator).argsort(-1)[..., :3]

    def take(x: Tensor) -> Tensor:
        return take_patches(x, index)

    assert torch.equal(take(x), x.gather(2, 1 + index.unsqueeze(-1).expand(-1, -1, -1, 4)))
    assert torch.autograd.gradcheck(take, x)
