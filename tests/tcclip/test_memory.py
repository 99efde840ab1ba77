"""The largest micro-batch that fits: searched with few steps, which leave no trace."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tcclip.config import AugmentConfig, ModelConfig, TrainConfig
from tcclip.memory import (
    available_memory,
    largest_that_fits,
    memory_limit,
    rehearse,
    training_peak,
    undisturbed,
)
from tcclip.model import build_model
from tcclip.model.tc_clip import Model

POWERS = [1, 2, 4, 8, 16, 32, 64]
MULTIPLES = [1, 2, 4, 8, 12, 16, 20, 24, 40, 48, 60]


def probed(
    sizes: list[int], limit: int, needs: Callable[[int], int | None]
) -> tuple[int, list[int]]:
    """(The size that was found, those that were tried)."""
    tried = list[int]()

    def peak(size: int) -> int | None:
        tried.append(size)
        return needs(size)

    return largest_that_fits(sizes, limit, peak), tried


@pytest.mark.parametrize("sizes", [POWERS, MULTIPLES, [4, 12], [3]])
def test_the_largest_that_fits_is_found_and_nothing_larger_is_tried(sizes: list[int]) -> None:
    for fitting in sizes:
        found, tried = probed(sizes, 5 + 3 * fitting, lambda size: 5 + 3 * size)
        assert found == fitting
        assert tried == sorted(set(tried)) and len(tried) <= 9
        # Two sizes are needed to know how much a video takes.
        assert all(size <= fitting for size in tried[2:])


def test_memory_that_does_not_grow_at_first_is_no_trap() -> None:
    """Of a long class list, the text tower takes more than the first videos."""
    found, tried = probed(POWERS, 20, lambda size: max(10, 2 + size))
    assert (found, tried) == (16, [1, 2, 4, 8, 16])
    found, tried = probed(POWERS, 17, lambda size: max(10, 2 + size))
    assert (found, tried) == (8, [1, 2, 4, 8, 16])


def test_running_out_of_memory_ends_the_search() -> None:
    assert probed(POWERS, 99, lambda size: size if size < 8 else None) == (4, [1, 2, 4, 8])
    assert probed(POWERS, 99, lambda size: None) == (1, [1]), "the run then says what to try"


def tiny(device: str) -> tuple[Model, TrainConfig, AugmentConfig, torch.device]:
    config = ModelConfig(
        name="tc_clip", backbone="tiny", num_frames=4, context_tokens=4, prompt_layers=(2,)
    )
    model = build_model(config, ["run", "jump high"], clip_weights="random").to(device)
    train = TrainConfig(epochs=1, warmup_epochs=0, lr=1e-3, lr_min=1e-4, global_batch=32)
    return model, train, AugmentConfig(), torch.device(device)


def state(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_rehearsal_leaves_no_trace() -> None:
    model, train, augment, device = tiny("cpu")
    model.eval()
    before, random, draws = state(model), torch.get_rng_state(), np.random.get_state()[1].copy()
    with undisturbed(model, device):
        rehearse(model, 6, train, augment, device)
        torch.rand(1)
        trained = [p for p in model.parameters() if p.requires_grad]
        assert model.training and all(p.grad is not None for p in trained)
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert (np.random.get_state()[1] == draws).all()
    after = state(model)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.gpu
def test_a_gpu_is_measured_in_a_few_steps_and_left_as_it_was() -> None:
    model, train, augment, device = tiny("cuda")
    allocated, random = torch.cuda.memory_allocated(), torch.cuda.get_rng_state()
    with undisturbed(model, device):
        training_peak(model, 1, train, augment, device)
        peaks = {n: training_peak(model, n, train, augment, device) for n in (8, 16, 24, 32)}

        def peak(size: int) -> int:
            return training_peak(model, size, train, augment, device)

        limit = (peaks[24] + peaks[32]) // 2
        assert largest_that_fits([8, 16, 24, 32], limit, peak) == 24
    grown = (peaks[32] - peaks[16]) / (peaks[24] - peaks[16])
    assert 1.9 < grown < 2.1, "memory grows linearly with the videos"
    available = available_memory(device, 1.0)
    assert 0 < memory_limit(model, available) < available * 2**30
    assert abs(available_memory(device, 0.25) - available / 4) <= 1
    # Libraries keep a workspace of some MB.
    assert torch.cuda.memory_allocated() - allocated < 100 * 2**20
    assert torch.equal(torch.cuda.get_rng_state(), random)
