"""How our model is held to the published implementation's numbers (tests/golden/README.md)."""

import json
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tcclip.model import Model, create_model
from tcclip.model.tc_clip import Output
from tests.golden import seeding
from tests.places import GOLDEN
from tests.tcclip.model.published import to_published

MODELS: dict[str, Any] = {"tcclip": "tc_clip", "vificlip": "vifi_clip", "clip": "clip"}
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


def recorded(case: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    facts = json.loads((GOLDEN / f"{case}.json").read_text())
    return facts, load_file(GOLDEN / f"{case}.safetensors")


@cache
def weights(seed: int) -> dict[str, Tensor]:
    return seeding.clip_weights(seed)


def golden_model(facts: dict[str, Any]) -> Model:
    """The case's model, on the CPU, in its recording's precision."""
    name = MODELS[facts["case"].split("_")[0]]
    model = create_model(
        name,
        facts["class_names"],
        clip_weights=weights(facts["weight_seed"]),
        num_frames=facts["frames"],
    )
    with torch.no_grad():
        for layer, block in enumerate(model.vision.blocks):
            if block.bias_table is not None:
                block.bias_table.copy_(seeding.bias_table(layer, 12, facts["weight_seed"]))
    return model.to(getattr(torch, facts["dtype"]))


def golden_video(facts: dict[str, Any]) -> Tensor:
    video = seeding.video(facts["video_seed"], facts["batch"], facts["frames"])
    return video.to(getattr(torch, facts["dtype"]))


def check_all(
    case: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> None:
    """AssertionError unless `case`, computed on `device` in `dtype` (None: as recorded), gives its
    recording, gradients included, as closely as its precision allows."""
    facts, golden = recorded(case)
    tolerance = TOLERANCE[facts["dtype"]]
    model = golden_model(facts).to(device, dtype)
    output = model(golden_video(facts).to(device, dtype), intermediates=True)
    labels = torch.arange(facts["batch"], device=device) % len(facts["class_names"])
    assert output.logits.dtype == (dtype or getattr(torch, facts["dtype"]))
    loss = F.cross_entropy(output.logits, labels)
    loss.backward()
    close(output.logits, golden["logits"], tolerance)
    close(loss, golden["loss"][0], tolerance)
    if model.config.name == "tc_clip":
        check_intermediates(output, golden, facts, tolerance)
    # In another precision a recording's own rounding counts too.
    relative = 1e-4 if dtype in (None, getattr(torch, facts["dtype"])) else 1e-3
    check_gradients(model, facts["grad_norm"], relative, split=model.config.name == "tc_clip")


def check_intermediates(
    output: Output, golden: dict[str, Tensor], facts: dict[str, Any], tolerance: float
) -> None:
    seen = output.intermediates
    assert seen is not None and seen.context_tokens is not None
    every = 4 if facts["frames"] == 4 else 8
    close(seen.context_tokens[:, :, ::4], golden["context_tokens"], tolerance)
    close(seen.frame_features, golden["frame_features"], tolerance)
    close(seen.cls_attention[11].flatten(0, 1)[::every], golden["cls_attention.11"], tolerance)
    for layer in (0, 5, 11):
        assert torch.equal(seen.assignments[layer].cpu(), golden[f"assignment.{layer}"].long())


def check_gradients(model: Model, norms: dict[str, float], relative: float, *, split: bool) -> None:
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }
    ours = {n: g.norm().item() for n, g in to_published(gradients, split=split).items()}
    assert set(ours) == set(norms)
    for name, norm in norms.items():
        # A key bias's gradient is rounding alone: hold it to the scale of the key weight's.
        scale = norms[name.replace("bias", "weight")] if "k_proj.bias" in name else norm
        assert abs(ours[name] - norm) <= relative * scale, f"{name}: {ours[name]}, not {norm}"


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    expected = expected.to(found.device, found.dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
