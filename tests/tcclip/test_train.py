"""What trains and how: parameter groups of the real models, losses, precision, selection."""

import pytest
import torch

from experiments.grid.plan import Grid, expand
from tcclip import methods
from tcclip.config import TrainConfig
from tcclip.model import build_model
from tcclip.schedule import build_optimizer
from tcclip.step import autocast, soft_target_loss

TRAIN = TrainConfig(epochs=1, warmup_epochs=0, lr=1e-3, lr_min=1e-5, global_batch=4)
NAMES = ["red circle", "blue square", "green cross"]


def model_of(name: str) -> torch.nn.Module:
    (spec,) = expand(Grid("fully_supervised", demo=True, models=(name,)))
    return build_model(spec.model, NAMES, clip_weights="random", seed=0)


def test_tc_clip_trains_everything_but_the_token_embedding_and_vp_faster() -> None:
    model = model_of("tc_clip")
    named = dict(model.named_parameters())
    frozen = {name for name, p in named.items() if not p.requires_grad}
    assert len(frozen) == 1
    assert "token_embedding" in next(iter(frozen))
    scales = methods.get("tc_clip").rate_scales(TRAIN)
    fast = [name for name in named if name.startswith(tuple(scales))]
    # The prompt vectors and the VP layers (SPEC 4), nothing that CLIP has.
    assert all("prompt" in name for name in fast)
    assert {name for name in named if "prompt" in name} == set(fast)
    slow_group, fast_group = build_optimizer(model, scales, TRAIN).param_groups
    assert {id(p) for p in fast_group["params"]} == {id(named[name]) for name in fast}
    rest = set(named) - set(fast) - frozen
    assert {id(p) for p in slow_group["params"]} == {id(named[name]) for name in rest}
    assert fast_group["base_lr"] == 10 * slow_group["base_lr"]


@pytest.mark.parametrize("name", ["vifi_clip", "clip", "open_vclip"])
def test_the_others_have_one_group(name: str) -> None:
    model = model_of(name)
    scales = methods.get(name).rate_scales(TRAIN)
    assert len(build_optimizer(model, scales, TRAIN).param_groups) == 1


def test_the_loss_is_the_soft_target_cross_entropy_summed_over_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    targets = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    targets /= targets.sum(1, keepdim=True)
    by_hand = -(targets * (logits - logits.logsumexp(1, keepdim=True))).sum()
    torch.testing.assert_close(soft_target_loss(logits, targets), by_hand)
    assert soft_target_loss(logits.bfloat16(), targets.float()).dtype == torch.float32


def test_precisions_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    with autocast("bf16", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast("fp32", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with pytest.raises(ValueError, match="use bf16 or fp32 on a CPU"):
        autocast("fp16", cpu)
