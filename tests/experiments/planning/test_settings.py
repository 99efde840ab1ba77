"""Settings that could not be computed to the end are found before anything starts."""

import re
from pathlib import Path
from typing import Any

import pytest

from experiments.grid.plan import Grid, expand
from experiments.planning.settings import settings_problems
from tcclip.config import GEOMETRIES, Execution
from tests.experiments.planning.lists import SETTINGS, own_specs, write_own

TINY = GEOMETRIES["tiny"].model_dump()
EXECUTION = Execution(device="cpu", micro_batch=4)


def problems(
    tmp_path: Path, execution: Execution = EXECUTION, model: str = "tc_clip", **settings: Any
) -> list[str]:
    changed = SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
    (spec,) = own_specs(write_own(tmp_path), settings=changed, models=(model,))
    return list(settings_problems(spec, execution, spec.model.sizes))


def geometry(**sizes: int) -> dict[str, Any]:
    return {"model__geometry": TINY | sizes}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment__crop": 24}, "augment.crop is 24 pixels and the model's image size 32"),
        ({"augment__crop": 36}, "augment.crop is 36 pixels and the model's image size 32"),
        ({"augment__resize": 31}, "augment.resize 31 is less than augment.crop 32"),
        ({"augment__crop_scales": []}, r"crop_scales \[\]: give shares"),
        ({"augment__crop_scales": [1.0, 1.5]}, r"crop_scales \[1.0, 1.5\]: give shares"),
        ({"augment__crop_scales": [1.0, 0.01]}, "of at least one of its 36 pixels"),
        ({"train__global_batch": 8}, "its 4 videos do not fill one global batch of 8"),
        ({"train__global_batch": 3}, "choose a train.global_batch that is a multiple of"),
        ({"train__precision": "fp16"}, "fp16 needs a CUDA device"),
        ({"train__clip_weights": "openai"}, "OpenAI published no weights for .*tiny"),
        (
            {**geometry(vision_width=128), "model__backbone": "ViT-B-16",
             "train__clip_weights": "openai"},
            "contradicts OpenAI's weights of ViT-B-16: image_size 32 .theirs 224., ",
        ),
        ({**geometry(image_size=36), "augment__crop": 36}, "no multiple of patch_size 8; .* 40"),
        (geometry(vision_heads=5), "vision_width 64 cannot be divided among vision_heads 5"),
        (geometry(text_heads=3), "text_width 64 cannot be divided among text_heads 3"),
        (geometry(vocab_size=100), "vocab_size 100 is less than the 49408 tokens"),
        (geometry(text_width=32), "text_width 32 and embed_dim 64 differ"),
    ],
)  # fmt: skip
def test_each_is_named_with_what_to_do(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    assert not problems(tmp_path)
    (found,) = problems(tmp_path, **settings)
    assert re.search(message, found), found


def test_everything_is_named_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, augment__resize=20, augment__crop=24, train__global_batch=64)
    assert len(found) == 3


def test_what_an_untrained_model_does_not_need_is_not_asked(tmp_path: Path) -> None:
    assert not problems(tmp_path, model="clip", train__global_batch=64, augment__crop_scales=[])
    differing = geometry(text_width=32)
    assert not problems(tmp_path, model="clip", **differing), "only prompts need equal widths"


@pytest.mark.parametrize("demo", [False, True])
@pytest.mark.parametrize("name", ["zero_shot", "few_shot", "base_to_novel", "fully_supervised"])
def test_every_protocol_is_in_order(name: str, demo: bool) -> None:
    for spec in expand(Grid(name, demo=demo, models=("tc_clip", "vifi_clip", "clip"))):
        assert not list(settings_problems(spec, Execution(), spec.model.sizes))


@pytest.mark.parametrize("backbone", ["ViT-B-16", "ViT-B-32", "ViT-L-14"])
def test_every_backbone_is_in_order(backbone: str) -> None:
    for spec in expand(Grid("few_shot", settings={"model.backbone": backbone})):
        assert not list(settings_problems(spec, Execution(), spec.model.sizes))
