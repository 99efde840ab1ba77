"""The same protocols on the embedded moving-shapes videos, small enough for two CPU cores.

Only sizes differ from the published protocols: a tiny model trained from scratch, fewer epochs,
smaller frames, a higher learning rate.
"""

from __future__ import annotations

from typing import Literal

from protocols.protocol import Protocol, Suite
from tcclip.config import AugmentConfig, MixConfig, TrainConfig, Views

_DATASET = "moving_shapes"

#: No mixing: it keeps pretrained CLIP from overfitting, and this model starts from scratch.
_TRAIN = TrainConfig(
    epochs=12, warmup_epochs=1, lr=2e-3, lr_min=2e-5, global_batch=32, schedule_batch=16,
    prompt_lr_scale=1.0, precision="fp32", clip_weights="random", validate_every=3,
    mix=MixConfig(probability=0.0),
)  # fmt: skip
#: `make demo`: as few epochs as two methods learn the shapes in.
_ZERO_SHOT = _TRAIN.model_copy(update={"epochs": 8, "lr": 3e-3})
#: Few videos make few steps an epoch: smaller batches and more epochs.
_FEW_SHOT = _TRAIN.model_copy(
    update={"epochs": 20, "warmup_epochs": 2, "global_batch": 16, "validate_every": 5}
)
_TRAINED = {"zero_shot": _ZERO_SHOT, "few_shot": _FEW_SHOT}
#: Colour is part of the class: hue and grey would change the label.
_AUGMENT = AugmentConfig(resize=36, crop=32, hue=0.0, grey=0.0)
_MODEL = {
    "backbone": "tiny", "num_frames": 8, "text_length": 16, "context_tokens": 12,
    "merge_step": 8, "prompt_layers": [2],
}  # fmt: skip

_MODELS = ("tc_clip", "vifi_clip", "clip")


def _suite(name: str, *splits: str, crops: Literal[1, 3] = 1) -> Suite:
    return Suite(name=name, dataset=_DATASET, splits=splits, views=Views(clips=2, crops=crops))


_SUITES: dict[str, tuple[Suite, ...]] = {
    "zero_shot": (_suite(_DATASET, "unseen1", "unseen2", "unseen3"),),
    "few_shot": (_suite(_DATASET, "val"),),
    "base_to_novel": (_suite("base", "base_val"), _suite("novel", "novel_val")),
    "fully_supervised": (_suite(_DATASET, "val", crops=3),),
}


def demo(protocol: Protocol) -> Protocol:
    """`protocol` on moving shapes with the tiny model; its name, axes and statistic unchanged."""
    update = {
        "demo": True,
        "title": f"{protocol.title} (demo on moving shapes, tiny model from scratch)",
        "datasets": (_DATASET,),
        "axis_values": (4, 8) if protocol.axis == "shots" else protocol.axis_values,
        "train": _TRAINED.get(protocol.name, _TRAIN),
        "validation": protocol.validation.model_copy(
            update={"name": "validation", "dataset": _DATASET, "splits": ("val",), "views": Views()}
        ),
        "suites": _SUITES[protocol.name],
        "model": _MODEL,
        "augment": _AUGMENT,
        "seeds": (0, 1) if protocol.name == "zero_shot" else (0,),
        "models": _MODELS if protocol.name == "zero_shot" else ("tc_clip", "clip"),
    }
    return protocol.model_copy(update=update)
