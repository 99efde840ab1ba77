"""Pixels of a training clip and of a test view (SPEC 3).

Shapes: T frames of H x W pixels, RGB uint8. Clips come in as (T, H, W, 3) arrays from the
reader and leave as (T, 3, S, S) uint8 tensors; normalisation happens on the model's device.

What is random about a training clip is drawn where it is read (`TrainTransform.draw`). What the
draws say is done there too if the model is on the CPU, and for whole batches on the GPU if it is
there (`Augmentation`): by the same operations, to the same pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tcclip.config import AugmentConfig
from tcclip.data.pixels.colour import UNALTERED, Jitter, jitter, jitter_in_parts, make_grey
from tcclip.data.pixels.resize import Taps, Window, resample, resize, taps

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


def short_side(size: Sequence[int], short: int) -> tuple[int, int]:
    """(height, width) with the shorter side made `short` pixels, the longer in proportion."""
    height, width = size
    smaller = min(size)
    return int(height * short / smaller + 0.5), int(width * short / smaller + 0.5)


def resize_short_side(video: torch.Tensor, short: int) -> torch.Tensor:
    """(T, 3, h, w) with the shorter side resized to `short` pixels, the longer in proportion."""
    return resize(video, *short_side(video.shape[-2:], short))


@dataclass(frozen=True)
class EvalTransform:
    """The spatial views of a test clip: one centre crop, or three along the longer side."""

    augment: AugmentConfig
    crops: int = 1

    def __call__(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """(T, H, W, 3) uint8 -> (crops, T, 3, S, S) uint8, S the crop size."""
        size, video = self.augment.crop, to_video(frames)
        short = self.augment.resize if self.crops == 1 else size
        height, width = short_side(video.shape[-2:], short)
        down, right = (height - size) // 2, (width - size) // 2
        if self.crops == 1:
            return resize(video, height, width, Window(down, right, size, size))[None].contiguous()
        video = resize(video, height, width)
        # Left, right, middle of a wide video; top, bottom, middle of a tall one.
        corners = [(down * step, right * step) for step in (0, 2, 1)]
        crops = [video[..., top : top + size, left : left + size] for top, left in corners]
        return torch.stack(crops)


class Draws(NamedTuple):
    """What was drawn for a clip of T frames: `crop` of the clip at its short side's size.

    `orders` (T, 4): the changes of each frame's colours, first to last, -1 for none;
    `amounts` (T, 4) float64: how much of each. See `tcclip.data.pixels.colour`.
    """

    crop: Window
    flip: bool
    orders: NDArray[np.int64]
    amounts: NDArray[np.float64]
    grey: bool


@dataclass(frozen=True)
class TrainTransform:
    """A training clip's multi-scale crop, flip, colour jitter and grey."""

    augment: AugmentConfig

    def shape(
        self, frames: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[torch.Tensor, Draws]:
        """(T, H, W, 3) uint8 -> the crop, resized and flipped, (T, 3, S, S) uint8, S the crop size,
        its colours as they were, and all that is drawn from `rng`.
        """
        crop, draws = self.cut(frames, rng)
        return resample(crop[None], *_taps([draws], self.augment.crop))[0], draws

    def recolour(self, videos: torch.Tensor, draws: Sequence[Draws]) -> None:
        """Change the colours of (b, T, 3, S, S) uint8 where they are: jitter and grey.

        Of a whole batch, since small frames cost little beside the calls.
        """
        orders = np.concatenate([one.orders for one in draws])
        amounts = np.concatenate([one.amounts for one in draws])
        jitter_in_parts(videos.flatten(0, 1), orders, amounts)
        for video, one in zip(videos, draws, strict=True):
            if one.grey:
                make_grey(video)

    def cut(
        self, frames: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[torch.Tensor, Draws]:
        """(T, H, W, 3) uint8 -> the crop (T, 3, h, w) uint8, not yet resized, and all that is
        drawn from `rng`.
        """
        video = to_video(frames)
        height, width = short_side(video.shape[-2:], self.augment.resize)
        draws = self.draw(height, width, len(video), rng)
        return resize(video, height, width, draws.crop), draws

    def collate(
        self, crops: Sequence[torch.Tensor], draws: Sequence[Draws]
    ) -> tuple[torch.Tensor, Augmentation]:
        """A batch of what `cut` gave, and what is still to be done to it.

        (b, T, P, P, 3) uint8: each crop at the top left, P the size of the largest there may be.
        As decoded, channels last: a GPU does not mind, a CPU would take milliseconds to turn them.
        """
        largest = max(map(max, self.crop_sizes(self.augment.resize)))
        batch = torch.zeros(len(crops), len(crops[0]), largest, largest, 3, dtype=torch.uint8)
        for into, crop in zip(batch, crops, strict=True):
            into[:, : crop.shape[-2], : crop.shape[-1]] = crop.permute(0, 2, 3, 1)
        return batch, Augmentation.of(draws, self.augment.crop)

    def draw(self, height: int, width: int, frames: int, rng: np.random.Generator) -> Draws:
        """The draws for a clip of that many frames, its short side resized."""
        augment = self.augment
        crop = self.draw_crop(height, width, rng)
        flip = bool(rng.random() < augment.flip)
        orders, amounts = np.full((frames, 4), -1), np.tile(UNALTERED, (frames, 1))
        if rng.random() < augment.jitter:
            # Quirk (`jitter_per` "frame"): amounts and order are drawn anew for every frame.
            each = 1 if augment.jitter_per == "frame" else frames
            for start in range(0, frames, each):
                part = slice(start, start + each)
                orders[part], amounts[part] = self._draw_jitter(rng)
        return Draws(crop, flip, orders, amounts, bool(rng.random() < augment.grey))

    def _draw_jitter(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], list[float]]:
        """The order of torchvision's four changes, and their amounts."""
        augment, order = self.augment, rng.permutation(4)
        spreads = (augment.brightness, augment.contrast, augment.saturation)
        amounts = [rng.uniform(max(0.0, 1.0 - spread), 1.0 + spread) for spread in spreads]
        return order, [*amounts, rng.uniform(-augment.hue, augment.hue)]

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

    def draw_crop(self, height: int, width: int, rng: np.random.Generator) -> Window:
        """A multi-scale crop at a corner or the centre."""
        sizes = self.crop_sizes(min(height, width))
        crop_height, crop_width = sizes[rng.integers(len(sizes))]
        down, right = (height - crop_height) // 4, (width - crop_width) // 4
        positions = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
        row, column = positions[rng.integers(len(positions))]
        return Window(row * down, column * right, crop_height, crop_width)


class Augmentation(NamedTuple):
    """What is to be done to a batch of b crops; tensors alone, so that they can be moved.

    `rows`, `columns`: how each crop becomes S x S pixels, flips included; `changes`: of the b * T
    frames' colours; `grey`: which clips lose them.
    """

    rows: Taps
    columns: Taps
    changes: Jitter
    grey: torch.Tensor

    @classmethod
    def of(cls, draws: Sequence[Draws], size: int) -> Augmentation:
        """Of clips that become `size` pixels wide and high."""
        return cls(
            *_taps(draws, size),
            Jitter.of(
                np.concatenate([one.orders for one in draws]),
                np.concatenate([one.amounts for one in draws]),
            ),
            torch.tensor([at for at, one in enumerate(draws) if one.grey], dtype=torch.int64),
        )

    def to(self, device: torch.device) -> Augmentation:
        """On `device`; does not wait for it."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=True)

        amounts, frames, groups = self.changes
        return Augmentation(
            Taps(*map(move, self.rows)),
            Taps(*map(move, self.columns)),
            Jitter(move(amounts), move(frames), groups),
            move(self.grey),
        )

    def apply(self, crops: torch.Tensor) -> torch.Tensor:
        """What `TrainTransform.collate` made (b, T, P, P, 3) -> (b, T, 3, S, S) uint8."""
        video = resample(crops.permute(0, 1, 4, 2, 3), self.rows, self.columns)
        jitter(video.flatten(0, 1), self.changes)
        if len(self.grey):
            grey = video.index_select(0, self.grey)
            make_grey(grey)
            video.index_copy_(0, self.grey, grey)
        return video


def _taps(draws: Sequence[Draws], size: int) -> tuple[Taps, Taps]:
    """How the rows and the columns of each crop become `size` ones, a flip included."""
    rows = [taps(one.crop.height, size, columns=False) for one in draws]
    columns = [taps(one.crop.width, size, columns=True) for one in draws]
    columns = [
        Taps(*(tensor.flip(-1) for tensor in across)) if one.flip else across
        for one, across in zip(draws, columns, strict=True)
    ]
    joined = (Taps(*map(torch.cat, zip(*each, strict=True))) for each in (rows, columns))
    return next(joined), next(joined)
