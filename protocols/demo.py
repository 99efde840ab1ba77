"""The same protocols on the embedded moving-shapes videos, small enough for two CPU cores.

Only sizes differ from the published protocols: a tiny model trained from scratch, fewer epochs,
smaller frames, a higher learning rate.
"""

from __future__ import annotations

from protocols.protocol import Protocol, Suite
from tcclip.config import AugmentConfig, MixConfig, TrainConfig, Views

_DATASET = "moving_shapes"
_VIEWS = Views(clips=2)

#: No mixing: it keeps pretrained CLIP from overfitting, and this model starts from scratch.
_TRAIN = TrainConfig(
    epochs=12, warmup_epochs=1, lr=2e-3, lr_min=2e-5, global_batch=32, schedule_batch=16,
    prompt_lr_scale=1.0, precision="fp32", clip_weights="random", validate_every=3,
    mix=MixConfig(probability=0.0),
)  # fmt: skip
#: Few videos make few steps an epoch: smaller batches and more epochs.
_FEW_SHOT = _TRAIN.model_copy(
    update={"epochs": 20, "warmup_epochs": 2, "global_batch": 16, "validate_every": 5}
)
#: Colour is part of the class: hue and grey would change the label.
_AUGMENT = AugmentConfig(resize=36, crop=32, hue=0.0, grey=0.0)
_MODEL = {
    "backbone": "tiny", "num_frames": 8, "text_length": 16, "context_tokens": 12,
    "merge_step": 8, "prompt_layers": [2],
}  # fmt: skip

_MODELS = ("tc_clip", "vifi_clip", "clip")

_SUITES: dict[str, tuple[Suite, ...]] = {
    "zero_shot": (
        Suite(
            name=_DATASET, dataset=_DATASET, views=_VIEWS,
            splits=("unseen1", "unseen2", "unseen3"),
        ),
    ),
    "few_shot": (Suite(name=_DATASET, dataset=_DATASET, splits=("val",), views=_VIEWS),),
    "base_to_novel": (
        Suite(name="base", dataset=_DATASET, splits=("base_val",), views=_VIEWS),
        Suite(name="novel", dataset=_DATASET, splits=("novel_val",), views=_VIEWS),
    ),
    "fully_supervised": (
        Suite(name=_DATASET, dataset=_DATASET, splits=("val",), views=Views(clips=2, crops=3)),
    ),
}  # fmt: skip


def demo(protocol: Protocol) -> Protocol:
    """`protocol` on moving shapes with the tiny model; its name, axes and statistic unchanged."""
    update = {
        "demo": True,
        "title": f"{protocol.title} (demo on moving shapes, tiny model from scratch)",
        "datasets": (_DATASET,),
        "axis_values": (4, 8) if protocol.axis == "shots" else protocol.axis_values,
        "train": _FEW_SHOT if protocol.name == "few_shot" else _TRAIN,
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
