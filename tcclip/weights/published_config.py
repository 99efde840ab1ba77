"""The settings of a published checkpoint, from its tensors' shapes and its own `config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tcclip import methods
from tcclip.config import ModelConfig
from tcclip.weights.clip_weights import geometry_of, layer_count
from tcclip.weights.stubs import named_settings

#: Published option -> ours, where both mean the same.
OPTIONS = {
    "context_token_k": "context_tokens",
    "seed_token_a": "seed_ratio",
    "tome_r": "merge_step",
    "context_length": "text_length",
    "num_frames": "num_frames",
    "im_stop_grad": "prompt_stop_grad",
}


def published_config(name: str, state: Mapping[str, Tensor], settings: Any) -> ModelConfig:
    """The settings of a method's checkpoint with our parameter names. `settings`: its config, or
    None; what it does not say keeps the published default."""
    if name == "tc_clip" and "text.prompt_vectors" not in state:
        # As published: TC-CLIP's project names both alike.
        name = "vifi_clip"
    options = named_settings(settings)
    said = {ours: options[theirs] for theirs, ours in OPTIONS.items() if theirs in options}
    config = methods.settings({"name": name, **said})
    found: dict[str, Any] = {}
    if config.name == "tc_clip":
        found["local_global_bias"] = any(name.endswith(".bias_table") for name in state)
        found["prompt_length"] = state["text.prompt_vectors"].shape[0]
        found["prompt_layers"] = _prompted_layers(state, options)
    table = state["vision.positional_embedding"]
    found["positional_embedding"] = "space" if table.ndim == 2 else "joint"
    geometry = geometry_of(state, None)
    if geometry != config.sizes:
        found["geometry"] = geometry
    return config.model_copy(update=found)


def _prompted_layers(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> tuple[int, ...]:
    level = str(options.get("prompt_generation_layer_level", ""))
    named = tuple(int(x) for x in level.replace("+", ",").split(",") if x.strip().isdigit())
    count = layer_count(state, "text.prompters.")
    if len(named) == count:
        return named
    # Not in the settings: the method prompts the last layer.
    last = layer_count(state, "text.blocks.")
    return tuple(range(last - count + 1, last + 1))
