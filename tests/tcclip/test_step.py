"""A step's gradient: class names encoded once, micro-batches, scaling, what it costs."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tcclip.config import AugmentConfig, Execution, MixConfig, ModelConfig, TrainConfig
from tcclip.data.loader import Batch
from tcclip.data.transforms import normalise
from tcclip.distributed import Ranks
from tcclip.model import Model
from tcclip.step import StepGradient, soft_target_loss
from tests.benchmarks.model_bench import class_names
from tests.tcclip.model.builders import NAMES, small_model

CPU = Ranks(0, 1, torch.device("cpu"))


def chunks_of(videos: int, chunk: int, frames: int = 4, size: int = 32) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(
        0, 255, (videos, frames, 3, size, size), dtype=torch.uint8, generator=generator
    )
    labels = torch.arange(videos) % len(NAMES)
    parts = (x.split(chunk) for x in (video, labels, torch.arange(videos)))
    return [Batch(*part, []) for part in zip(*parts, strict=True)]


def full_size_model(names: list[str]) -> Model:
    """ViT-B/16, without values."""
    with torch.device("meta"):
        model = Model(ModelConfig(text_length=77).resolved())
    model.set_class_names(names)
    return model


def step_gradient(
    model: Model, *, videos: int, micro_batch: int, scale: float | None = None, ranks: Ranks = CPU
) -> StepGradient:
    train = TrainConfig(
        epochs=1, warmup_epochs=0, lr=1e-3, lr_min=1e-5, global_batch=videos,
        precision="fp32", mix=MixConfig(probability=0),
    )  # fmt: skip
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    execution = Execution(micro_batch=micro_batch)
    return StepGradient(model, train, AugmentConfig(), execution, ranks, scaler, seed=0)


def gradients(model: Model) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "settings",
    [{}, {"prompt_layers": (1, 2)}, {"prompt_stop_grad": False}, {"name": "vifi_clip"}],
)
def test_encoding_the_names_once_gives_the_same_gradient(settings: dict[str, Any]) -> None:
    """As encoding them in each micro-batch does; twice, so that nothing is left of a step."""
    model, chunks = small_model(dtype=torch.float64, **settings), chunks_of(8, chunk=4)
    gradient = step_gradient(model, videos=8, micro_batch=2)
    for _ in range(2):
        loss, replaced = gradient(chunks, epoch=0, step=0)
    found = gradients(model)

    model.zero_grad()
    smooth = 0.1 / len(NAMES)
    expected_loss = 0.0
    for batch in chunks:
        video = normalise(batch.video, AugmentConfig()).double()
        targets = torch.full((4, len(NAMES)), smooth).scatter(
            1, batch.labels[:, None], 0.9 + smooth
        )
        for clip, target in zip(video.split(2), targets.split(2), strict=True):
            one = soft_target_loss(model(clip).logits, target) / 8
            one.backward()
            expected_loss += one.item()
    assert loss == pytest.approx(expected_loss, rel=1e-9)
    assert replaced == 0
    expected = gradients(model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


def test_a_scaled_loss_scales_the_whole_gradient() -> None:
    model, chunks = small_model(dtype=torch.float64), chunks_of(8, chunk=4)
    loss, _ = step_gradient(model, videos=8, micro_batch=4)(chunks, epoch=0, step=0)
    plain = gradients(model)
    scaled, _ = step_gradient(model, videos=8, micro_batch=4, scale=1024.0)(chunks, 0, 0)
    assert scaled == loss
    for name, value in gradients(model).items():
        assert torch.equal(value, 1024 * plain[name]), name


def test_flops_of_a_step_with_long_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """TFLOP a clip of 16 micro-batches of 4, K400's rephrased names: 2.81 when the names were
    encoded in every micro-batch."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # none for "meta"
    meta = Ranks(0, 1, torch.device("meta"))
    model = full_size_model(class_names(400, 77))
    flops = []
    for micro_batches in (1, 2):
        gradient = step_gradient(model, videos=4 * micro_batches, micro_batch=4, ranks=meta)
        chunks = chunks_of(4 * micro_batches, 4, frames=16, size=224)
        with FlopCounterMode(display=False) as counter:
            gradient._backward(chunks, 0, 0)
        flops.append(counter.get_total_flops())
    a_step = flops[0] + 15 * (flops[1] - flops[0])
    assert a_step / 64 < 0.65 * 2.81e12
