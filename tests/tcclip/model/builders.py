"""Small models for the tests: random weights, loud enough that every part matters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tcclip.config import Geometry, ModelConfig
from tcclip.model import Model, build_model

NAMES = ("ApplyEyeMakeup", "brush_hair", "pull ups", "yoyo")
SMALL = Geometry(
    image_size=32, patch_size=8, vision_width=32, vision_layers=3, vision_heads=4,
    text_width=24, text_layers=3, text_heads=2, embed_dim=24,
)  # fmt: skip


def small_config(**settings: Any) -> ModelConfig:
    defaults: dict[str, Any] = {
        "geometry": SMALL,
        "num_frames": 4,
        "context_tokens": 5,
        "merge_step": 4,
        "prompt_layers": (3,),
        "text_length": 20,
    }
    return ModelConfig(**(defaults | settings))


def small_model(
    *, names: tuple[str, ...] = NAMES, seed: int = 0, dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Model:  # fmt: skip
    """A small model with every parameter stirred, so that no bias is 0 and no norm is 1."""
    model = build_model(small_config(**settings), names, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                scale = 0.5 if name.endswith("bias_table") else 0.1
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.to(dtype)


def small_video(
    batch: int = 2, frames: int = 4, *, seed: int = 0, size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, 3, size, size, generator=generator).to(dtype)
