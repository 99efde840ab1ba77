"""Settings that contradict each other: sizes of the model and of the clips, batches, lists."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.grid.spec import RunSpec
from tcclip import methods
from tcclip.config import GEOMETRIES, AugmentConfig, Execution, Geometry, ModelConfig

#: Tokens of CLIP's byte-pair encoder.
VOCABULARY = 49408


def settings_problems(spec: RunSpec, execution: Execution, sizes: Geometry) -> Iterator[str]:
    """Why a run with these settings could not be computed to its end.

    `sizes`: the model's, which a file of CLIP's weights may bring.
    """
    yield from _geometry_problems(spec.model, sizes)
    if spec.train.clip_weights == "openai":
        yield from _openai_problems(spec.model)
    yield from _clip_problems(spec.augment, sizes, trained=spec.train.epochs > 0)
    yield from _pack_problems(spec)
    if spec.train.precision == "fp16" and execution.device == "cpu":
        yield "train.precision=fp16 needs a CUDA device; choose bf16 or fp32, or another --device"
    if spec.train.epochs:
        yield from _batch_problems(spec, execution)


def _geometry_problems(model: ModelConfig, sizes: Geometry) -> Iterator[str]:
    if sizes.image_size % sizes.patch_size:
        lower = sizes.image_size // sizes.patch_size * sizes.patch_size
        yield (
            f"model.geometry: image_size {sizes.image_size} is no multiple of patch_size "
            f"{sizes.patch_size}; choose {lower + sizes.patch_size}, or another patch_size"
        )
    for tower in ("vision", "text"):
        width, heads = getattr(sizes, f"{tower}_width"), getattr(sizes, f"{tower}_heads")
        if width % heads:
            yield (
                f"model.geometry: {tower}_width {width} cannot be divided among {tower}_heads "
                f"{heads}; choose a multiple"
            )
    if sizes.vocab_size < VOCABULARY:
        yield (
            f"model.geometry: vocab_size {sizes.vocab_size} is less than the {VOCABULARY} tokens "
            "of CLIP's text encoder; leave it out"
        )
    if methods.resolved(model).prompted_layers and sizes.text_width != sizes.embed_dim:
        yield (
            f"model.geometry: text_width {sizes.text_width} and embed_dim {sizes.embed_dim} "
            "differ; prompts see context tokens only where they are equal: make them so, or set "
            "model.video_prompting=false"
        )


def _openai_problems(model: ModelConfig) -> Iterator[str]:
    known = GEOMETRIES.get(model.backbone)
    if model.backbone == "tiny":
        yield (
            "OpenAI published no weights for model.backbone=tiny; set train.clip_weights=random, "
            "or another backbone"
        )
    elif known is not None and model.sizes != known:
        wrong = [
            f"{name} {value} (theirs {getattr(known, name)})"
            for name, value in model.sizes
            if value != getattr(known, name)
        ]
        yield (
            f"model.geometry contradicts OpenAI's weights of {model.backbone}: {', '.join(wrong)}; "
            "leave it out, or set train.clip_weights=random or a file"
        )


def _clip_problems(augment: AugmentConfig, sizes: Geometry, trained: bool) -> Iterator[str]:
    crop, resize = augment.crop, augment.resize
    if crop != sizes.image_size:
        yield (
            f"augment.crop is {crop} pixels and the model's image size {sizes.image_size}; they "
            f"must be equal: --set augment.crop={sizes.image_size}, or another model.backbone or "
            "model.geometry"
        )
    if resize < crop:
        yield (
            f"augment.resize {resize} is less than augment.crop {crop}: no crop fits into a "
            f"resized frame; set augment.resize to at least {crop}"
        )
    unfit = [scale for scale in augment.crop_scales if not 1 <= resize * scale <= resize]
    if trained and (unfit or not augment.crop_scales):
        yield (
            f"augment.crop_scales {list(augment.crop_scales)}: give shares of the resized short "
            f"side, more than 0 and at most 1, of at least one of its {resize} pixels"
        )


def _pack_problems(spec: RunSpec) -> Iterator[str]:
    packs = {one.dataset: one.pack for one, _ in spec.lists if one.pack is not None}
    for name, pack in packs.items():
        if pack.digest is None:
            yield f"{name}: its pack is not complete; give `tcclip data pack` again to go on"
        if spec.augment.reader == "published":
            yield (
                f"{name} is read from a pack, which holds the frames of augment.reader=auto; "
                "augment.reader=published needs the videos themselves: correct --data-root"
            )
        if spec.augment.resize > pack.short_side:
            yield (
                f"augment.resize {spec.augment.resize} is more than the {pack.short_side} pixels "
                f"that the pack of {name} keeps; make one with --short-side {spec.augment.resize}"
            )


def _batch_problems(spec: RunSpec, execution: Execution) -> Iterator[str]:
    try:
        execution.chunk_size(spec.train)
    except ValueError as error:
        yield str(error)
    batch, one = spec.train.global_batch, spec.train_list
    # None: a published list of many videos.
    if one.split.videos is not None and one.split.videos < batch:
        yield (
            f"{one.dataset} {one.split.name}: its {one.split.videos} videos do not fill one global "
            f"batch of {batch}; lower it with --set train.global_batch=..."
        )
