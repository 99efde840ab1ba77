"""What a run will cost, before it runs: videos, steps, GPU-hours, disk.

GPU-hours are measured, from finished runs of the same kind, or else assumed: the multiply-adds of
all views over a rate that was not measured and is stated beside the number.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.grid.spec import ListSpec, RunSpec
from results.records import Result, RunKey
from tcclip.config import ModelConfig

#: Multiply-adds a second that one GPU sustains in mixed precision: assumed, not measured.
ASSUMED_RATE = 30e12
#: Forward and backward over forward alone.
TRAINING_FACTOR = 3.0
#: Bytes a parameter: best (float32), last (float32), and AdamW's two moments while training.
KEPT_BYTES, TRAINING_BYTES = 8, 16
ASSUMPTION = (
    "GPU-hours: measured: the mean of finished runs of this kind; assumed: multiply-adds at "
    f"{ASSUMED_RATE / 1e12:.0f} T/s sustained a GPU, decoding not counted, not measured"
)

#: What runs that cost the same have in common; see `kind`.
Kind = tuple[object, ...]


@dataclass(frozen=True)
class Cost:
    """What a run costs; None where that takes a training list that is not on this machine."""

    videos: int | None
    steps: int | None
    eval_videos: int | None
    gpu_hours: float | None
    #: Of the GPU-hours: "measured", "assumed" or "unknown".
    basis: str
    gigabytes: float


def cost(spec: RunSpec, measured: Mapping[Kind, float], train_videos: int | None = None) -> Cost:
    """The cost of one run.

    `measured`: see `measured_hours`. `train_videos`: length of the training list, where it is not
    published.
    """
    videos = spec.train_list.split.videos or train_videos
    trained = spec.train.epochs > 0
    steps = None if videos is None else spec.train.epochs * (videos // spec.train.global_batch)
    counts = [one.split.videos for one in spec.suites]
    eval_videos = sum(c for c in counts if c is not None) if None not in counts else None
    parameters = estimated_parameters(spec.model)
    gigabytes = parameters * (KEPT_BYTES + (TRAINING_BYTES if trained else 0)) / 1e9
    hours, basis = measured.get(kind(spec.key)), "measured"
    if hours is None:
        hours = _assumed(spec, videos)
        basis = "unknown" if hours is None else "assumed"
    return Cost(videos if trained else 0, steps, eval_videos, hours, basis, gigabytes)


def kind(key: RunKey) -> Kind:
    """Everything of a run's key but the seed."""
    return tuple(value for name, value in key if name != "seed")


def measured_hours(finished: Iterable[Result]) -> dict[Kind, float]:
    """Kind of run -> mean GPU-hours of its finished runs on a GPU."""
    hours: dict[Kind, list[float]] = {}
    for one in finished:
        if one.provenance.gpu_hours > 0:
            hours.setdefault(kind(one.key), []).append(one.provenance.gpu_hours)
    return {key: statistics.fmean(values) for key, values in hours.items()}


def _assumed(spec: RunSpec, videos: int | None) -> float | None:
    if videos is None and spec.train.epochs:
        return None
    view = forward_operations(spec.model)
    train = TRAINING_FACTOR * view * spec.train.epochs * (videos or 0)
    epochs = range(spec.train.epochs)
    validations = len({*epochs[:: spec.train.validate_every], *epochs[-1:]})
    weight_sets = 2 if spec.ensemble_weight is None else 4  # best and last, raw and ensembled
    weight_sets = weight_sets if spec.train.epochs else 1
    views = validations * _views(spec.validation) + weight_sets * _views(spec.suites)
    return (train + view * views) / ASSUMED_RATE / 3600


def _views(lists: Sequence[ListSpec]) -> int:
    """Views of all videos of the lists; one without a published length is left out."""
    return sum((one.split.videos or 0) * one.views.clips * one.views.crops for one in lists)


def forward_operations(model: ModelConfig) -> float:
    """Multiply-adds of the vision tower for one view, which the literature calls FLOPs: 285 G for
    ViFi-CLIP ViT-B/16 at 16 frames (SPEC 7)."""
    sizes = model.sizes
    tokens, width = model.num_frames * (sizes.patches + 1), sizes.vision_width
    keys = sizes.patches + 1 + (model.context_tokens if model.name == "tc_clip" else 0)
    linear = 12 * width * width * tokens
    attention = 2 * width * tokens * keys
    return float(sizes.vision_layers * (linear + attention))


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
