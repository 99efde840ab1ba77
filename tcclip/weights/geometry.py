"""Tower sizes from the shapes of a state dict."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from tcclip.config import Geometry


def geometry_of(state: Mapping[str, Tensor], known: Geometry | None) -> Geometry:
    """The sizes of a CLIP or TC-CLIP state dict under our names.

    Shapes do not tell the number of heads: it is that of `known` for a tower of the same width,
    else one for every 64 columns. Without a token embedding the vocabulary is CLIP's.
    """
    width, _, _, patch_size = state["vision.conv1.weight"].shape
    context_length, text_width = state["text.positional_embedding"].shape
    table = state["vision.positional_embedding"]
    sizes = {
        "image_size": patch_size * math.isqrt(table.shape[-2] - 1),
        "patch_size": patch_size,
        "vision_width": width,
        "vision_layers": layer_count(state, "vision.blocks."),
        "vision_heads": max(width // 64, 1),
        "text_width": text_width,
        "text_layers": layer_count(state, "text.blocks."),
        "text_heads": max(text_width // 64, 1),
        "embed_dim": state["vision.proj"].shape[1],
        "context_length": context_length,
    }
    if known is not None and known.vision_width == width:
        sizes["vision_heads"] = known.vision_heads
    if known is not None and known.text_width == text_width:
        sizes["text_heads"] = known.text_heads
    if "text.token_embedding.weight" in state:
        sizes["vocab_size"] = state["text.token_embedding.weight"].shape[0]
    return Geometry(**sizes)


def layer_count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers there are below `prefix`, e.g. "text.blocks."."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
