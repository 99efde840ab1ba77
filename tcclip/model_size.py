"""How large a model is and what its forward pass costs, from its settings alone, without torch."""

from __future__ import annotations

from tcclip import methods
from tcclip.config import ModelConfig


def forward_operations(model: ModelConfig) -> float:
    """Multiply-adds of the vision tower for one view, which the literature calls FLOPs: 285 G for
    ViFi-CLIP ViT-B/16 at 16 frames (SPEC 7)."""
    model = methods.resolved(model)
    sizes, frames = model.sizes, model.num_frames
    tokens, width = frames * (sizes.patches + 1), sizes.vision_width
    more = {
        "none": 0,
        "context": model.context_tokens,
        "cls": frames - 1,
        "window": 2 * sizes.patches,
        "joint": (frames - 1) * (sizes.patches + 1),
    }
    keys = sizes.patches + 1 + more[model.frame_attention]
    linear = 12 * width * width * tokens
    attention = 2 * width * tokens * keys
    return float(sizes.vision_layers * (linear + attention))


def class_list_operations(model: ModelConfig, classes: int) -> float:
    """Multiply-adds of the text tower for a class list, at most: its names are rarely as long as
    `text_length` allows. What depends on the video beside it is a thousandth of the vision tower.
    """
    sizes, length = model.sizes, model.text_length
    width = sizes.text_width
    return float(classes * length * sizes.text_layers * width * (12 * width + 2 * length))


def estimated_parameters(model: ModelConfig) -> int:
    """Parameters of both towers, the prompting layers included, to within a percent."""
    sizes = model.sizes
    text_layers = sizes.text_layers + len(methods.resolved(model).prompted_layers)
    vision = _blocks(sizes.vision_width, sizes.vision_layers)
    vision += (sizes.patches + 1 + 3 * sizes.patch_size**2 + sizes.embed_dim) * sizes.vision_width
    text = _blocks(sizes.text_width, text_layers)
    text += (sizes.vocab_size + sizes.context_length + sizes.embed_dim) * sizes.text_width
    return vision + text


def _blocks(width: int, layers: int) -> int:
    return 12 * width * width * layers
