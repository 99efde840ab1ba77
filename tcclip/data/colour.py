"""Colour jitter with torchvision's meaning (SPEC 3): four changes in a random order."""

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
            video = tv.adjust_hue(video, hue)
    return video
