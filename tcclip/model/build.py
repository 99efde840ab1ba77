"""From settings and starting weights to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tcclip import methods
from tcclip.config import ModelConfig
from tcclip.model.tc_clip import Model
from tcclip.model.tokens import PROMPT_WORDS, word_ids
from tcclip.weights.clip_weights import ClipWeights, clip_state, initial_values
from tcclip.weights.layouts import State
from tcclip.weights.parameter_names import from_openai, listed


def create_model(
    name: str,
    class_names: Sequence[str],
    *,
    clip_weights: ClipWeights = None,
    seed: int = 0,
    **config: Any,
) -> Model:
    """A model by its method's name; `config`: the method's settings (fields of `ModelConfig`); the
    other arguments as `build_model`."""
    settings = methods.settings({"name": name, **config})
    return build_model(settings, class_names, clip_weights=clip_weights, seed=seed)


def build_model(
    config: ModelConfig,
    class_names: Sequence[str],
    *,
    clip_weights: ClipWeights = None,
    seed: int = 0,
) -> Model:
    """A float32 model on the CPU, in training mode.

    `clip_weights`: None or "random" (drawn from `seed`, CLIP's initialisation), "openai" (of
    `config.backbone`, through open_clip), or an OpenAI-named state dict or a path to one; its
    geometry is then the model's. What CLIP does not have is drawn from `seed`; the global random
    number generators are not used. ValueError for settings that cannot be built.
    """
    state, geometry = clip_state(clip_weights, config, seed)
    if geometry != config.sizes:
        config = config.model_copy(update={"geometry": geometry})
    model = empty_model(config)
    initial = _initial_state(model, state, torch.Generator().manual_seed(seed + 1))
    # On "meta" nothing was allocated or drawn: every value comes from here.
    model.load_state_dict(initial, assign=True)
    model.set_class_names(class_names)
    return model


def empty_model(config: ModelConfig) -> Model:
    """The model of these settings on "meta", without values or class names.

    ValueError for settings that cannot be built.
    """
    config = methods.resolved(config)
    method = methods.get(config.name)
    with torch.device("meta"):
        model: Model = (method.build or Model)(config)
    model.wording = method.wording
    return model


def _initial_state(model: Model, clip: State, generator: torch.Generator) -> State:
    state = {from_openai(name): x for name, x in clip.items()}
    config = model.config
    if config.positional_embedding == "joint":
        table = state["vision.positional_embedding"]
        state["vision.positional_embedding"] = table.repeat(config.num_frames, 1, 1)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias_table"):
            state[name] = torch.empty(parameter.shape)
            nn.init.trunc_normal_(state[name], std=0.02, generator=generator)
    if model.text.prompt_vectors is not None:
        state["text.prompt_vectors"] = _prompt_vectors(
            state["text.token_embedding.weight"], config.prompt_length, generator
        )
    for j, layer in enumerate(model.text.prompt_layers):
        for name, parameter in model.text.prompters[j].named_parameters():
            shape = tuple(parameter.shape)
            state[f"text.prompters.{j}.{name}"] = (
                initial_values(name, shape, config.sizes.text_layers, generator)
                if config.prompt_init == "random"
                else state[f"text.blocks.{layer - 1}.{name.replace('ln_1_kv', 'ln_1')}"].clone()
            )
    return state | _of_the_method(model, state, generator)


def _of_the_method(model: Model, state: State, generator: torch.Generator) -> State:
    """What only the model's method knows how to begin with."""
    method, shapes = methods.get(model.config.name), dict(model.named_parameters())
    left = {name: tuple(p.shape) for name, p in shapes.items() if name not in state}
    make = method.initial_value
    if make is None and left:
        raise ValueError(
            f"{method.title} has parameters that CLIP lacks, {listed(left)}, and no initial_value"
        )
    return {} if make is None else {name: make(name, left[name], generator) for name in left}


def _prompt_vectors(table: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """The words "a photo of a": the last ones for a shorter prompt, small random ones before them
    for a longer one."""
    words = table[word_ids(PROMPT_WORDS)]
    drawn = torch.randn(max(length - len(words), 0), table.shape[1], generator=generator)
    vectors = torch.cat([0.02 * drawn, words])
    return vectors[len(vectors) - length :].clone()
