"""Whether the device computes the right numbers, how far bf16 is from them, and whether again."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tcclip.model import Model
from tcclip.model.tc_clip import Output
from tests.benchmarks.gpu_bench.drive import Bench, Clock, Steps, determinism
from tests.benchmarks.gpu_bench.report import Row
from tests.tcclip.model.builders import small_model, small_video
from tests.tcclip.model.golden import check_all, golden_model, golden_video, recorded
from tests.tcclip.model.oracle import agree, gradients_agree

GOLDEN = ("tcclip_t16_f64", "tcclip_t4", "vificlip_t4", "clip_t4")
ORACLE: dict[str, dict[str, Any]] = {
    "default": {},
    "three prompted layers": {"prompt_layers": (1, 2, 3)},
    "no stopped gradient": {"prompt_layers": (2,), "prompt_stop_grad": False},
    "joint positions, no bias": {"positional_embedding": "joint", "local_global_bias": False},
    "vifi_clip": {"name": "vifi_clip"},
}


def cases(bench: Bench) -> Iterator[Row]:
    """The recorded cases are of full size; the others are small."""
    if bench.geometry == "ViT-B-16":
        yield from ({"case": f"golden {name}"} for name in GOLDEN)
    yield from ({"case": f"oracle {name}"} for name in ORACLE)


def holds(bench: Bench, *, case: str) -> Row:
    """A case in float64, gradients included; AssertionError if it does not hold."""
    kind, name = case.split(" ", 1)
    if kind == "golden":
        check_all(name, bench.device, torch.float64)
    else:
        model = small_model(dtype=torch.float64, **ORACLE[name]).to(bench.device)
        video = small_video(dtype=torch.float64).to(bench.device)
        agree(model, video)
        gradients_agree(model, video)
    return {"dtype": "float64", "holds": "yes"}


# ---- Precision ----


def precision(bench: Bench, *, computed: str) -> Row:
    """One forward of tc_clip against float64: logits, and how many seeds are the same."""
    model, video = _loud(bench)
    exact = _forward(model.double(), video.double(), "float64")
    found = _forward(model.float(), video.float(), computed)
    logits, wanted = found.logits.double(), exact.logits
    assert found.intermediates is not None and exact.intermediates is not None
    overlaps = [
        (a.unsqueeze(-1) == b.unsqueeze(-2)).any(-1).double().mean().item()
        for a, b in zip(found.intermediates.seeds, exact.intermediates.seeds, strict=True)
    ]
    return {
        "relative_error": ((logits - wanted).norm() / wanted.norm()).item(),
        "largest_error": (logits - wanted).abs().max().item(),
        "seeds_as_in_float64": sum(overlaps) / len(overlaps),
        "worst_layer": min(overlaps),
    }


@functools.cache
def _weights(bench: Bench) -> tuple[Model, torch.Tensor]:
    if bench.geometry != "ViT-B-16":
        return small_model(), small_video()
    facts, _ = recorded("tcclip_t16_f64")
    return golden_model(facts), golden_video(facts)


def forget() -> None:
    """Free the memory that `precision` kept."""
    _weights.cache_clear()


def _loud(bench: Bench) -> tuple[Model, torch.Tensor]:
    """Weights and video of a recorded case, where every part matters."""
    model, video = _weights(bench)
    return model.to(bench.device), video.to(bench.device)


@torch.no_grad()
def _forward(model: Model, video: torch.Tensor, computed: str) -> Output:
    with (
        _tf32("TF32" in computed),
        torch.autocast(video.device.type, torch.bfloat16, enabled=computed == "bf16"),
    ):
        return model.eval()(video, intermediates=True)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Convolutions in TF32, torch's default on CUDA, or exact."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


# ---- The same again ----


def again(bench: Bench, *, deterministic: bool, compile: bool) -> Row:
    """Two runs of a few steps: are losses and weights equal to the bit?"""
    first, second = (_trained(bench, deterministic, compile) for _ in range(2))
    different = [name for name, x in first[1].items() if not torch.equal(x, second[1][name])]
    return {
        "steps": len(first[0]),
        "losses_equal": first[0] == second[0],
        "weights_equal": not different,
        "different": f"{len(different)} of {len(first[1])}"
        + (f", {different[0]} first" if different else ""),
    }


def _trained(
    bench: Bench, deterministic: bool, compile: bool
) -> tuple[list[float], dict[str, torch.Tensor]]:
    model = bench.model("tc_clip")
    steps = Steps(Clock(bench.device), 5 if bench.on_gpu else 2)
    with determinism(deterministic):
        execution = bench.execution(micro_batch=8, compile=compile)
        # A rate at which a difference of one bit in a gradient moves a weight.
        bench.train(model, execution, steps, global_batch=16, rate=1e-4)
    return steps.losses, {name: x.cpu() for name, x in model.state_dict().items()}
