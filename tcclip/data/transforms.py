"""Pixels of a training clip and of a test view (SPEC 3).

Shapes: T frames of H x W pixels, RGB uint8. Clips come in as (T, H, W, 3) arrays from the
reader and leave as (T, 3, S, S) uint8 tensors; normalisation happens on the model's device.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as tv

from tcclip.config import AugmentConfig

#: Mean and std on the 0-255 scale. Quirk: the published code uses ImageNet's, not CLIP's.
NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "clip": (
        (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255),
        (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255),
    ),
}


def normalise(video: torch.Tensor, augment: AugmentConfig) -> torch.Tensor:
    """(..., 3, H, W) uint8 -> float32, minus the mean, over the std, on the video's device."""
    mean, std = _mean_and_std(augment.normalisation, video.device)
    return (video.float() - mean) / std


@functools.cache
@torch.inference_mode(False)
def _mean_and_std(name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(3, 1, 1) each. Kept: every copy to a GPU is waited for."""
    mean, std = (torch.tensor(values, device=device) for values in NORMALISATIONS[name])
    return mean.view(3, 1, 1), std.view(3, 1, 1)


def to_video(frames: NDArray[np.uint8]) -> torch.Tensor:
    """(T, H, W, 3) array -> (T, 3, H, W) tensor on the same memory."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def resize(video: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(T, 3, h, w) -> (T, 3, height, width): bilinear, half-pixel centres, no antialiasing."""
    if video.shape[-2:] == (height, width):
        return video
    return torch.nn.functional.interpolate(
        video, size=(height, width), mode="bilinear", align_corners=False, antialias=False
    )


def resize_short_side(video: torch.Tensor, short: int) -> torch.Tensor:
    """(T, 3, h, w) with the shorter side resized to `short` pixels, the longer in proportion."""
    height, width = video.shape[-2:]
    smaller = min(height, width)
    sides = (int(side * short / smaller + 0.5) for side in (height, width))
    return resize(video, *sides)


@dataclass(frozen=True)
class EvalTransform:
    """The spatial views of a test clip: one centre crop, or three along the longer side."""

    augment: AugmentConfig
    crops: int = 1

    def __call__(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """(T, H, W, 3) uint8 -> (crops, T, 3, S, S) uint8, S the crop size."""
        size = self.augment.crop
        if self.crops == 1:
            video = resize_short_side(to_video(frames), self.augment.resize)
            height, width = video.shape[-2:]
            corners = [((height - size) // 2, (width - size) // 2)]
        else:
            video = resize_short_side(to_video(frames), size)
            down, right = ((side - size) // 2 for side in video.shape[-2:])
            # Left, right, middle of a wide video; top, bottom, middle of a tall one.
            corners = [(down * step, right * step) for step in (0, 2, 1)]
        crops = [video[..., top : top + size, left : left + size] for top, left in corners]
        return torch.stack(crops).contiguous()


@dataclass(frozen=True)
class TrainTransform:
    """A training clip's multi-scale crop, flip, colour jitter and grey."""

    augment: AugmentConfig

    def __call__(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
        """(T, H, W, 3) uint8 -> (T, 3, S, S) uint8, S the crop size; all draws from `rng`."""
        augment = self.augment
        video = resize_short_side(to_video(frames), augment.resize)
        top, left, height, width = self.draw_crop(video.shape[-2], video.shape[-1], rng)
        video = video[..., top : top + height, left : left + width]
        video = resize(video, augment.crop, augment.crop)
        if rng.random() < augment.flip:
            video = video.flip(-1)
        if rng.random() < augment.jitter:
            video = jitter(video, augment, rng)
        if rng.random() < augment.grey:
            video = tv.rgb_to_grayscale(video, num_output_channels=3)
        return video.contiguous()

    def crop_sizes(self, base: int) -> list[tuple[int, int]]:
        """The (height, width) that may be cut from a clip whose short side is `base` pixels."""
        size = self.augment.crop
        sides = [int(base * scale) for scale in self.augment.crop_scales]
        sides = [size if abs(side - size) < 3 else side for side in sides]
        return [
            (height, width)
            for i, height in enumerate(sides)
            for j, width in enumerate(sides)
            if abs(i - j) <= 1
        ]

    def draw_crop(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a multi-scale crop at a corner or the centre."""
        sizes = self.crop_sizes(min(height, width))
        crop_height, crop_width = sizes[rng.integers(len(sizes))]
        down, right = (height - crop_height) // 4, (width - crop_width) // 4
        positions = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
        row, column = positions[rng.integers(len(positions))]
        return row * down, column * right, crop_height, crop_width


def jitter(video: torch.Tensor, augment: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """(T, 3, H, W) uint8 -> the same shape: torchvision's four changes in a random order.

    Quirk (`jitter_per` "frame"): amounts and order are drawn anew for every frame.
    """
    if augment.jitter_per == "clip":
        return _change(video, augment, rng)
    return torch.cat([_change(frame[None], augment, rng) for frame in video])


def _change(video: torch.Tensor, augment: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """All frames of (t, 3, H, W) changed by the same amounts, in the same order."""
    order = rng.permutation(4)
    brightness, contrast, saturation = (
        float(rng.uniform(max(0.0, 1.0 - spread), 1.0 + spread))
        for spread in (augment.brightness, augment.contrast, augment.saturation)
    )
    hue = float(rng.uniform(-augment.hue, augment.hue))
    for change in order:
        if change == 0 and augment.brightness:
            video = tv.adjust_brightness(video, brightness)
        elif change == 1 and augment.contrast:
            video = tv.adjust_contrast(video, contrast)
        elif change == 2 and augment.saturation:
            video = tv.adjust_saturation(video, saturation)
        elif change == 3 and augment.hue:
            video = shift_hue(video, hue)
    return video


def shift_hue(video: torch.Tensor, turn: float) -> torch.Tensor:
    """(..., 3, H, W) uint8 with its hue shifted by `turn` of the colour circle, -0.5 to 0.5.

    As torchvision's adjust_hue, within one grey level, in a third of its time: that was more than
    the rest of the data path together, decoding of small videos included.
    """
    red, green, blue = video.float().unbind(-3)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    is_red, is_green = high == red, high == green
    # The angle in sixths of the circle: 0 red, 2 green, 4 blue.
    hue = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    hue /= chroma.clamp(min=1.0)
    hue += torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0)) + 6.0 * turn
    hue -= 6.0 * torch.floor(hue / 6.0)
    shares = (
        (hue - 3.0).abs_().sub_(1.0),
        (hue - 2.0).abs_().neg_().add_(2.0),
        (hue - 4.0).abs_().neg_().add_(2.0),
    )
    low += 0.5  # so that cutting off the fraction rounds
    shifted = torch.empty_like(video)
    for channel, share in enumerate(shares):
        shifted.select(-3, channel).copy_(share.clamp_(0.0, 1.0).mul_(chroma).add_(low))
    return shifted
