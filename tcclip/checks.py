"""Which combinations of settings make a model: each refusal says what to do instead."""

from __future__ import annotations

from tcclip.config import ModelConfig


def prompts_video(config: ModelConfig) -> bool:
    """Does the text depend on the video (VP)? Only tc_clip's does."""
    return config.name == "tc_clip" and config.video_prompting


def uses_context(config: ModelConfig) -> bool:
    """Does the vision tower make context tokens (TC)?"""
    return config.frame_attention == "context"


def seeds_per_frame(config: ModelConfig, patches: int) -> int:
    """int(P * alpha), SPEC 2.1 step 3."""
    return int(patches * config.seed_ratio)


def resolve(config: ModelConfig) -> ModelConfig:
    """`config` with what its name implies, checked. ValueError for what cannot be built.

    vifi_clip and clip are frame by frame and without prompting, whatever the defaults say.
    """
    if config.name != "tc_clip":
        if config.frame_attention not in ("none", "context"):
            raise ValueError(
                f"{config.name} is frame by frame, got frame_attention "
                f"{config.frame_attention!r}; for this ablation use "
                "name='tc_clip', video_prompting=False"
            )
        config = config.model_copy(update={"frame_attention": "none", "video_prompting": False})
    _check_text(config)
    check_frames(config, config.num_frames)
    if prompts_video(config):
        _check_prompting(config)
    return config


def check_frames(config: ModelConfig, frames: int) -> None:
    """Can the model take videos of so many frames? ValueError if not."""
    if frames < 1:
        raise ValueError("the video has no frames")
    if config.positional_embedding == "joint" and frames != config.num_frames:
        raise ValueError(
            f"the video has {frames} frames, but joint positional embeddings are made for "
            f"num_frames={config.num_frames}; sample as many, or use positional_embedding='space'"
        )
    if not uses_context(config):
        return
    patches = config.sizes.patches
    each = seeds_per_frame(config, patches)
    if each < 1:
        raise ValueError(
            f"seed_ratio {config.seed_ratio} leaves no seed of {patches} patches a frame; "
            f"raise it to at least {1 / patches:.3g}"
        )
    if config.aggregation != "none" and each * frames < config.context_tokens:
        raise ValueError(
            f"{frames} frames of {each} seeds make {each * frames} seed tokens, fewer than "
            f"context_tokens={config.context_tokens}; lower context_tokens, or raise seed_ratio "
            "or num_frames"
        )


def _check_text(config: ModelConfig) -> None:
    sizes = config.sizes
    if config.text_length > sizes.context_length:
        raise ValueError(
            f"text_length {config.text_length} is more than the {sizes.context_length} positions "
            "of the text tower; lower it"
        )


def _check_prompting(config: ModelConfig) -> None:
    sizes, layers = config.sizes, config.prompt_layers
    allowed = min(sizes.text_layers, sizes.vision_layers)
    fits = all(1 <= layer <= allowed for layer in layers)
    if not layers or not fits or len(set(layers)) != len(layers):
        raise ValueError(
            f"prompt_layers {layers} must be different layers from 1 to {allowed} "
            f"(the text tower has {sizes.text_layers}, the vision tower {sizes.vision_layers}); "
            "to prompt none, set video_prompting=False"
        )
    if sizes.text_width != sizes.embed_dim:
        raise ValueError(
            f"video prompting needs text_width ({sizes.text_width}) equal to embed_dim "
            f"({sizes.embed_dim}): prompts ask context tokens of the joint embedding; change the "
            "geometry or set video_prompting=False"
        )
