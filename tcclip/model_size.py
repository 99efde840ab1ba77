"""How large a model is and what its forward pass costs, from its settings alone, without torch."""

from __future__ import annotations

from tcclip.config import ModelConfig


def forward_operations(model: ModelConfig) -> float:
    """Multiply-adds of the vision tower for one view, which the literature calls FLOPs: 285 G for
    ViFi-CLIP ViT-B/16 at 16 frames (SPEC 7)."""
    sizes = model.sizes
    tokens, width = model.num_frames * (sizes.patches + 1), sizes.vision_width
    keys = sizes.patches + 1 + (model.context_tokens if model.name == "tc_clip" else 0)
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
    prompted = model.name == "tc_clip" and model.video_prompting
    text_layers = sizes.text_layers + (len(model.prompt_layers) if prompted else 0)
    vision = _blocks(sizes.vision_width, sizes.vision_layers)
    vision += (sizes.patches + 1 + 3 * sizes.patch_size**2 + sizes.embed_dim) * sizes.vision_width
    text = _blocks(sizes.text_width, text_layers)
    text += (sizes.vocab_size + sizes.context_length + sizes.embed_dim) * sizes.text_width
    return vision + text


def _blocks(width: int, layers: int) -> int:
    return 12 * width * width * layers
