from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcclip.config import AugmentConfig, Reader
from tcclip.data.decode.reader import read_video
from tcclip.data.sampling import segment_indices
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import EvalTransform, TrainTransform, normalise, resize_short_side
from tests.places import GOLDEN

RECORDED: dict[str, Any] = json.loads((GOLDEN / "preprocess.json").read_text())
#: Values are recorded to 5 decimals.
ROUNDING = 1e-5
#: Of a mean over a clip: one grey level after normalising is 1 / the smallest std.
HALF_A_LEVEL = 0.5 / 57.12


def _clip(height: int, width: int, frames: int = 4) -> NDArray[np.uint8]:
    return seeded_rng("clip", height, width).integers(0, 256, (frames, height, width, 3), np.uint8)


def augmented(transform: TrainTransform, frames: NDArray[np.uint8], seed: int) -> torch.Tensor:
    """As a loader does it for a model on the CPU, (T, 3, S, S)."""
    video, draws = transform.shape(frames, seeded_rng(seed))
    transform.recolour(video[None], [draws])
    return video


@pytest.mark.parametrize("name", RECORDED)
def test_golden_preprocessing(real_clips: Path, name: str) -> None:
    # The HMDB51 golden holds the wrong frames that decord's seeking returns (SPEC 3).
    mode: Reader = "published" if name.startswith("hmdb51") else "auto"
    golden = RECORDED[name]
    clip = read_video(real_clips / name, lambda total: segment_indices(total, 16), mode)
    assert clip.total_frames == golden["total_frames"]
    assert segment_indices(clip.total_frames, 16).tolist() == golden["frame_inds"]
    for key, crops in (("centre", 1), ("three_crops", 3)):
        expected = golden[key]
        video = EvalTransform(AugmentConfig(), crops)(clip.frames).flatten(0, 1)
        assert list(video.shape) == expected["shape"]
        pixels = normalise(video, AugmentConfig())
        values = torch.stack([pixels[tuple(place)] for place in expected["places"]])
        assert (values - torch.tensor(expected["values"])).abs().max() <= ROUNDING
        means = torch.tensor(expected["channel_mean"])
        assert torch.allclose(pixels.mean((0, 2, 3)), means, atol=HALF_A_LEVEL)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((240, 320), (256, 341)), ((320, 240), (341, 256)), ((256, 340), (256, 340))],
)
def test_short_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    video = torch.zeros(1, 3, *size, dtype=torch.uint8)
    assert resize_short_side(video, 256).shape[-2:] == expected


def test_resize_is_bilinear_with_half_pixel_centres() -> None:
    row = torch.tensor([[0, 100]], dtype=torch.uint8).expand(1, 3, 2, 2)
    assert resize_short_side(row, 4)[0, 0, 0].tolist() == [0, 25, 75, 100]


def test_three_crops_are_left_right_middle() -> None:
    wide = np.broadcast_to(np.arange(60, dtype=np.uint8)[None, None, :, None], (1, 20, 60, 3))
    crops = EvalTransform(AugmentConfig(resize=24, crop=20), 3)(wide.copy())
    assert crops.shape == (3, 1, 3, 20, 20)
    assert crops[:, 0, 0, 0, 0].tolist() == [0, 40, 20]
    tall = wide.swapaxes(1, 2).copy()
    assert EvalTransform(AugmentConfig(crop=20), 3)(tall)[:, 0, 0, 0, 0].tolist() == [0, 40, 20]


@settings(max_examples=40)
@given(st.integers(16, 120), st.integers(16, 120), st.integers(0, 1000))
def test_train_clips_have_one_size_and_depend_on_the_key_alone(
    height: int, width: int, seed: int
) -> None:
    transform = TrainTransform(AugmentConfig(resize=36, crop=32))
    frames = _clip(height, width)
    video = augmented(transform, frames, seed)
    assert video.shape == (4, 3, 32, 32)
    assert video.dtype == torch.uint8
    assert video.is_contiguous()
    assert torch.equal(video, augmented(transform, frames, seed))


def test_crops_are_the_published_ones() -> None:
    transform = TrainTransform(AugmentConfig())
    # 256 x .875 is 224 itself; .66 gives 168, two steps apart are never combined.
    assert transform.crop_sizes(256) == [
        (256, 256), (256, 224), (224, 256), (224, 224), (224, 192),
        (192, 224), (192, 192), (192, 168), (168, 192), (168, 168),
    ]  # fmt: skip
    assert TrainTransform(AugmentConfig(crop=190)).crop_sizes(256)[4] == (224, 190)
    rng = seeded_rng("crops")
    drawn = {transform.draw_crop(256, 341, rng) for _ in range(2000)}
    assert {(height, width) for _, _, height, width in drawn} == set(transform.crop_sizes(256))
    corners = {place[:2] for place in drawn if place[2:] == (224, 192)}
    right, down = 4 * ((341 - 192) // 4), 4 * ((256 - 224) // 4)
    assert corners == {(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)}


_STILL = AugmentConfig(flip=0, jitter=0, grey=0, crop_scales=(1.0,), resize=32, crop=32)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_without_augmentation_a_clip_is_only_resized_and_flipped(flip: float) -> None:
    augment = _STILL.model_copy(update={"flip": flip})
    frames = _clip(32, 32)
    straight = torch.from_numpy(frames).permute(0, 3, 1, 2)
    video = augmented(TrainTransform(augment), frames, 0)
    assert torch.equal(video, straight.flip(-1) if flip else straight)


def test_grey_applies_to_the_clip() -> None:
    augment = _STILL.model_copy(update={"grey": 1.0})
    video = augmented(TrainTransform(augment), _clip(32, 32), 0)
    assert torch.equal(video[:, 0], video[:, 1])
    assert torch.equal(video[:, 0], video[:, 2])


@pytest.mark.parametrize("per", ["frame", "clip"])
def test_jitter_per_frame_or_clip(per: str) -> None:
    augment = _STILL.model_copy(update={"jitter": 1.0, "jitter_per": per})
    frames = np.repeat(_clip(32, 32, 1), 4, axis=0)
    video = augmented(TrainTransform(augment), frames, 0)
    same = [torch.equal(video[0], other) for other in video[1:]]
    assert all(same) if per == "clip" else not any(same)


@pytest.mark.parametrize("name", ["imagenet", "clip"])
def test_normalisation(name: str) -> None:
    augment = AugmentConfig.model_validate({"normalisation": name})
    video = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    pixels = normalise(video, augment)
    assert pixels.dtype == torch.float32
    expected = {"imagenet": (123.675, 58.395), "clip": (122.7709, 68.5005)}[name]
    assert pixels[0, 0, 0, 0].item() == pytest.approx(-expected[0] / expected[1], rel=1e-5)
    assert pixels[1, 0, 0, 0].item() == pytest.approx((255 - expected[0]) / expected[1], rel=1e-5)
