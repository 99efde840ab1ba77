"""Colour jitter as torchvision defines it (SPEC 3): four changes in a random order."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

from tcclip.config import AugmentConfig


def jitter(video: torch.Tensor, augment: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """(T, 3, H, W) uint8 -> the same shape: brightness, contrast, saturation, hue changed.

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
