"""A step's gradient: class names encoded once, micro-batches, scaling, what it costs."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tcclip import methods
from tcclip.config import (
    COMPILE_FROM,
    AugmentConfig,
    Execution,
    Geometry,
    MixConfig,
    ModelConfig,
    TrainConfig,
)
from tcclip.data.loader import Batch
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import TrainTransform, normalise
from tcclip.distributed import Ranks
from tcclip.model import Model
from tcclip.schedule import build_optimizer
from tcclip.step import StepGradient, soft_target_loss
from tests.benchmarks.model_bench import class_names
from tests.tcclip.model.builders import NAMES, SMALL, small_config, small_model

SHALLOW: dict[str, Any] = {
    "geometry": SMALL.model_copy(update={"vision_layers": 2, "text_layers": 2}),
    "prompt_layers": (2,),
}
CPU = Ranks(0, 1, torch.device("cpu"))


def chunks_of(videos: int, chunk: int, frames: int = 4, size: int = 32) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(
        0, 255, (videos, frames, 3, size, size), dtype=torch.uint8, generator=generator
    )
    labels = torch.arange(videos) % len(NAMES)
    parts = (x.split(chunk) for x in (video, labels, torch.arange(videos)))
    return [Batch(*part, []) for part in zip(*parts, strict=True)]


def full_width_model(names: list[str]) -> Model:
    """ViT-B/16 with two layers a tower, without values."""
    sizes = Geometry(
        image_size=224, patch_size=16, vision_width=768, vision_layers=2, vision_heads=12,
        text_width=512, text_layers=2, text_heads=8, embed_dim=512,
    )  # fmt: skip
    with torch.device("meta"):
        model = Model(
            methods.resolved(ModelConfig(geometry=sizes, text_length=77, prompt_layers=(2,)))
        )
    model.set_class_names(names)
    return model


def step_gradient(
    model: Model,
    *,
    videos: int,
    micro_batch: int,
    scale: float | None = None,
    ranks: Ranks = CPU,
    mixing: float = 0.0,
    start: dict[str, Tensor] | None = None,
) -> StepGradient:
    train = TrainConfig(
        epochs=1, warmup_epochs=0, lr=1e-3, lr_min=1e-5, global_batch=videos,
        precision="fp32", mix=MixConfig(probability=mixing),
    )  # fmt: skip
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    execution = Execution(micro_batch=micro_batch)
    return StepGradient(model, train, AugmentConfig(), execution, ranks, scaler, 0, start)


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


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without code generation, which takes a minute; the graphs are the same."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **kwargs: compile(f, backend="eager", **kwargs))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_backward_pass_that_fails_is_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Eagerly, from the step's start, after one warning."""
    model, chunks = small_model(dtype=torch.float64, **SHALLOW), chunks_of(8, chunk=4)
    gradient = step_gradient(model, videos=8, micro_batch=2)
    losses = [gradient(chunks, 0, 0)]
    expected = gradients(model)
    model.set_compiled(True)
    losses.append(gradient(chunks, 0, 0))
    for name, value in gradients(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)
    calls: list[Tensor] = []

    def fail_third(loss: Tensor) -> Tensor:
        calls.append(loss)
        if len(calls) == 3:
            raise RuntimeError("a kernel cannot be compiled")
        return loss

    monkeypatch.setattr(gradient.scaler, "scale", fail_third)
    losses.append(gradient(chunks, 0, 0))
    assert losses == [pytest.approx(losses[0], rel=1e-12)] * 3
    for name, value in gradients(model).items():
        assert torch.equal(value, expected[name]), name
    (record,) = (one for one in caplog.records if one.name == "tcclip.model.compiled")
    assert "a kernel cannot be compiled" in record.message


def test_auto_compiles_on_cuda_what_is_long_enough() -> None:
    auto = Execution()
    assert auto.compiles("cuda", COMPILE_FROM)
    assert not auto.compiles("cuda", COMPILE_FROM - 1)
    assert not auto.compiles("cpu", COMPILE_FROM)
    assert not Execution(deterministic=True).compiles("cuda", COMPILE_FROM)
    assert Execution(compile=True).compiles("cpu", 1)
    assert not Execution(compile=False).compiles("cuda", COMPILE_FROM)


@pytest.mark.parametrize("name", ["compile", "deterministic"])
def test_a_switch_is_on_off_or_auto(name: str) -> None:
    assert getattr(Execution.model_validate({name: "auto"}), name) == "auto"
    assert getattr(Execution.model_validate({name: True}), name) is True
    with pytest.raises(ValidationError, match="give auto, true or false"):
        Execution.model_validate({name: "sometimes"})


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a GPU: values that are read, copies that block."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, kwargs = torch.ops.aten, kwargs or {}
        if func is aten._local_scalar_dense.default:
            self.count += args[0].is_cuda
            return 1 if args[0].dtype == torch.int64 else 1.0
        result = func(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[0] if func is aten._to_copy.default else args[1]
            blocks = not (kwargs.get("non_blocking") or any(arg is True for arg in args))
            self.count += blocks and source.device.type != result.device.type
        elif func is aten.index.Tensor:
            self.count += any(not index.is_cuda for index in args[1] if index is not None)
        return result


def cropped(batch: Batch) -> Batch:
    """As a loader for a GPU makes it: crops, and what is still to be done to them."""
    transform, rng = TrainTransform(AugmentConfig(resize=36, crop=32, grey=0.5)), seeded_rng(0)
    frames = batch.video.permute(0, 1, 3, 4, 2).contiguous().numpy()
    crops, draws = zip(*(transform.cut(clip, rng) for clip in frames), strict=True)
    video, augmentation = transform.collate(crops, draws)
    assert augmentation.changes.groups
    assert len(augmentation.grey)
    return batch._replace(video=video, augmentation=augmentation)


def test_the_host_waits_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # The backward pass, all of it torch's own, does not run on a GPU that is not there.
    monkeypatch.setattr(torch.Tensor, "backward", lambda _: None)
    monkeypatch.setattr(torch.autograd, "backward", lambda *_: None)
    chunks = [cropped(batch) for batch in chunks_of(16, chunk=8)]
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        model = Model(methods.resolved(small_config(**SHALLOW)))
        model.set_class_names(NAMES)
        cuda = Ranks(0, 1, torch.device("cuda"))
        gradient = step_gradient(model, videos=16, micro_batch=8, ranks=cuda, mixing=1.0)
        optimizer = build_optimizer(model, {"text.prompt": 10.0}, gradient.config)
        assert all(group["fused"] for group in optimizer.param_groups)
        with Waits() as waits:
            for _ in range(2):
                waits.count = 0
                gradient(chunks, epoch=0, step=0)
                gradient.scaler.step(optimizer)
    assert waits.count == 1


def test_flops_of_a_step_with_long_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 16 micro-batches of 4 encodes K400's rephrased names once, not in each of
    them: at full depth 1.7 TFLOP a clip instead of 2.3."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # none for "meta"
    meta = Ranks(0, 1, torch.device("meta"))
    model = full_width_model(class_names(400, 77))
    flops = []
    for micro_batches in (1, 2):
        gradient = step_gradient(model, videos=4 * micro_batches, micro_batch=4, ranks=meta)
        chunks = chunks_of(4 * micro_batches, 4, frames=16, size=224)
        with FlopCounterMode(display=False) as counter:
            gradient._backward(chunks, 0, 0)
        flops.append(counter.get_total_flops())
    a_step = flops[0] + 15 * (flops[1] - flops[0])
    assert a_step < 0.78 * 16 * flops[0]
