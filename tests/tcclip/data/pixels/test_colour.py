from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from tcclip.config import AugmentConfig
from tcclip.data.pixels.colour import Jitter, jitter, jitter_in_parts, make_grey, shift_hue
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import TrainTransform
from tests.tcclip.data.test_transforms import augmented

CHANGES: tuple[Any, ...] = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
#: Nothing but colours is changed, and all colours are.
COLOURS = AugmentConfig(flip=0, jitter=1.0, grey=0, crop_scales=(1.0,), resize=24, crop=24)


def frames_of(count: int, size: int = 24) -> torch.Tensor:
    """(count, 3, size, size): noise, and every second one smooth."""
    frames = seeded_rng("frames", count).integers(0, 256, (count, 3, size, size), np.uint8)
    frames[::2] = np.kron(frames[::2, :, :4, :4], np.ones((1, 1, 6, 6), np.uint8))[
        ..., :size, :size
    ]
    return torch.from_numpy(frames)


def one_by_one(video: torch.Tensor, augment: AugmentConfig, key: int) -> torch.Tensor:
    """Torchvision's jitter frame by frame, drawing as it goes; hue by the function under test."""
    rng, changed = seeded_rng(key), []
    # Where the crop is, whether to flip and to jitter.
    TrainTransform(augment).draw_crop(24, 24, rng)
    rng.random(2)
    for part in video.split(1 if augment.jitter_per == "frame" else len(video)):
        order = rng.permutation(4)
        spreads = (augment.brightness, augment.contrast, augment.saturation)
        amounts = [float(rng.uniform(max(0.0, 1.0 - x), 1.0 + x)) for x in spreads]
        turn = torch.full((len(part), 1, 1, 1), float(rng.uniform(-augment.hue, augment.hue)))
        for change in order:
            if change < 3:
                part = CHANGES[change](part, amounts[change])  # noqa: PLW2901
            else:
                levels = part.float()
                shift_hue(levels, turn.double())
                part = levels.to(torch.uint8)  # noqa: PLW2901
        changed.append(part)
    return torch.cat(changed)


@pytest.mark.parametrize(
    "settings",
    [{}, {"jitter_per": "clip"}, {"hue": 0.0}, {"hue": 0.5, "saturation": 1.5, "contrast": 0.0}],
)
def test_jitter_is_torchvisions_frame_by_frame(settings: dict[str, Any]) -> None:
    augment = AugmentConfig.model_validate(COLOURS.model_dump() | settings)
    for key in range(3):
        frames = frames_of(16)
        clip = frames.permute(0, 2, 3, 1).contiguous().numpy()
        found = augmented(TrainTransform(augment), clip, key).int()
        expected = one_by_one(frames, augment, key).int()
        # Equal wherever torch has fused multiply and add, as on every x86 of the last ten years.
        assert (found - expected).abs().max() <= 1
        assert (found != expected).float().mean() < 1e-3


def test_all_at_once_and_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeded_rng("draws")
    orders = np.stack([rng.permutation(4) for _ in range(32)])
    orders[5:9] = -1
    amounts = rng.uniform(0.5, 1.4, (32, 4)) - [0, 0, 0, 1]
    expected, changes = frames_of(32), Jitter.of(orders, amounts)
    assert sum(size for _, size in changes.groups) == 28 * 4
    jitter(expected, changes)
    assert torch.equal(expected[5:9], frames_of(32)[5:9])
    for at_once in (1, 5000):
        monkeypatch.setattr("tcclip.data.pixels.colour.AT_ONCE", at_once)
        jitter_in_parts(found := frames_of(32), orders, amounts)
        assert torch.equal(found, expected)


def test_changes_of_no_amount_are_left_out() -> None:
    changes = Jitter.of(np.array([[0, 1, 2, 3]]), np.array([[1.0, 0.5, 1.0, 0.0]]))
    assert changes.groups == ((1, 1),)
    unchanged = frames_of(4)
    jitter(unchanged, Jitter.of(np.full((4, 4), -1), np.ones((4, 4))))
    assert torch.equal(unchanged, frames_of(4))


def test_grey_is_torchvisions() -> None:
    make_grey(found := frames_of(4))
    assert torch.equal(found, tv.rgb_to_grayscale(frames_of(4), num_output_channels=3))


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.03, 0.4])
def test_hue_is_torchvisions_within_a_level(turn: float) -> None:
    few = torch.tensor([0, 1, 17, 128, 254, 255], dtype=torch.uint8)
    every = torch.cartesian_prod(few, few, few).T.reshape(1, 3, 6, 36)
    for frames in (every, frames_of(4)):
        shift_hue(found := frames.float(), torch.full((len(frames), 1, 1, 1), turn).double())
        assert (found.int() - tv.adjust_hue(frames, turn).int()).abs().max() <= 1
        assert turn != 0.0 or torch.equal(found, frames.float())
