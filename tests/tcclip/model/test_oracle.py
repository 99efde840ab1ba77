"""The model and the literal transcription of SPEC 2 agree, on any small geometry."""

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tcclip.config import Geometry
from tests.tcclip.model.builders import NAMES, small_model, small_video
from tests.tcclip.model.oracle import agree, gradients_agree

DOUBLE = torch.float64


@st.composite
def geometries(draw: Any) -> Geometry:
    patch = draw(st.sampled_from([4, 8]))
    heads = draw(st.sampled_from([1, 2]))
    return Geometry(
        image_size=patch * draw(st.integers(2, 4)),
        patch_size=patch,
        vision_width=8 * heads * draw(st.integers(1, 2)),
        vision_layers=draw(st.integers(1, 4)),
        vision_heads=heads,
        text_width=16,
        text_layers=draw(st.integers(1, 4)),
        text_heads=draw(st.sampled_from([1, 2, 4])),
        embed_dim=16,
    )


@st.composite
def models(draw: Any) -> tuple[dict[str, Any], int]:
    sizes = draw(geometries())
    frames = draw(st.integers(1, 4))
    ratio = draw(st.sampled_from([0.3, 0.5, 0.75, 1.0]))
    seeds = int(sizes.patches * ratio) * frames
    assume(seeds >= 1)
    layers = range(1, min(sizes.text_layers, sizes.vision_layers) + 1)
    chosen = draw(st.lists(st.sampled_from(layers), min_size=1, max_size=3, unique=True))
    settings_ = {
        "geometry": sizes,
        "num_frames": frames,
        "seed_ratio": ratio,
        "context_tokens": draw(st.integers(1, seeds)),
        "merge_step": draw(st.integers(1, 12)),
        "prompt_layers": tuple(sorted(chosen)),
        "prompt_length": draw(st.integers(1, 6)),
        "local_global_bias": draw(st.booleans()),
        "positional_embedding": draw(st.sampled_from(["space", "joint"])),
        "prompt_stop_grad": draw(st.booleans()),
    }
    return settings_, draw(st.integers(0, 1000))


@settings(max_examples=40, derandomize=True)
@given(models())
def test_any_small_model_agrees(drawn: tuple[dict[str, Any], int]) -> None:
    given_settings, seed = drawn
    model = small_model(seed=seed, dtype=DOUBLE, **given_settings)
    size = given_settings["geometry"].image_size
    agree(model, small_video(2, given_settings["num_frames"], seed=seed, size=size, dtype=DOUBLE))


@pytest.mark.parametrize("name", ["vifi_clip", "clip"])
def test_frame_by_frame_models_agree(name: str) -> None:
    agree(small_model(name=name, dtype=DOUBLE), small_video(dtype=DOUBLE))


@pytest.mark.parametrize("layers", [(3,), (1, 3), (2,), (1, 2, 3)])
@pytest.mark.parametrize("stop", [True, False])
def test_gradients_agree(layers: tuple[int, ...], stop: bool) -> None:
    model = small_model(dtype=DOUBLE, prompt_layers=layers, prompt_stop_grad=stop)
    gradients_agree(model, small_video(dtype=DOUBLE))


@pytest.mark.parametrize("layers", [(3,), (1, 3)])
def test_names_of_many_lengths_agree(layers: tuple[int, ...]) -> None:
    """Three buckets of names that are not in the order of their lengths; gradients too."""
    words = ["a", "small", "red", "horse", "over", "an", "old", "bridge", "and", "a", "person"]
    names = tuple(" ".join(words[: 1 + i * 7 % len(words)]) for i in range(48))
    model = small_model(dtype=DOUBLE, names=names, prompt_layers=layers, num_frames=2, merge_step=2)
    assert len(model.class_buckets) == 3
    video = small_video(2, 2, dtype=DOUBLE)
    agree(model, video)
    gradients_agree(model, video)


def test_reruns_are_equal_to_the_bit() -> None:
    model = small_model()
    video = small_video()
    assert torch.equal(model(video).logits, model(video).logits)


def test_the_class_list_does_not_change_a_class() -> None:
    """Cutting at the list's longest end-of-text leaves every class as it is alone."""
    model = small_model(dtype=DOUBLE)
    features = model.encode_video(small_video(dtype=DOUBLE))
    together = model.score(features, model.encode_classes())
    for i, name in enumerate(NAMES):
        alone = model.score(features, model.encode_classes([name]))
        torch.testing.assert_close(alone[:, 0], together[:, i])
