"""Torchvision's colour jitter and grey for uint8 frames, each frame with its own amounts.

A change rounds down to whole grey levels, as torchvision's do, so their order matters. Frames that
get the same change at the same time go through it together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: The four changes by number, as torchvision's ColorJitter counts them.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
#: The amounts that change nothing.
UNALTERED = (1.0, 1.0, 1.0, 0.0)
#: Changes levels (n, 3, H, W), float32 but whole numbers, where they are, by amounts (n, 1, 1, 1).
Change = Callable[[Tensor, Tensor], None]
#: How many values a CPU changes at once: what its cache holds.
AT_ONCE = 2**17


class Jitter(NamedTuple):
    """What is changed of n frames, in order.

    `amounts` (n, 4) float64: of each change, 1 for no brightness, contrast or saturation, 0 for no
    hue. `groups`: a change, and how many frames get it together; `frames` (sum of the groups'
    sizes,) int64: which ones.
    """

    amounts: Tensor
    frames: Tensor
    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, orders: NDArray[np.int64], amounts: NDArray[np.float64]) -> Jitter:
        """Of `orders` and `amounts`, each (n, 4). A row of `orders` lists its frame's changes from
        the first to the last; -1: none. Changes that no frame is altered by are left out.
        """
        altering = {at for at in range(4) if (amounts[:, at] != UNALTERED[at]).any()}
        groups: dict[tuple[int, int], list[int]] = {}
        for frame, order in enumerate(orders.tolist()):
            for step, change in enumerate(order):
                if change in altering:
                    groups.setdefault((step, change), []).append(frame)
        found = sorted(groups.items())
        return cls(
            torch.from_numpy(amounts),
            torch.tensor([frame for _, frames in found for frame in frames], dtype=torch.int64),
            tuple((change, len(frames)) for (_, change), frames in found),
        )


def jitter(frames: Tensor, changes: Jitter) -> None:
    """Change frames (n, 3, H, W) uint8 where they are."""
    if not changes.groups:
        return
    levels = frames.float()
    parts = changes.frames.split([size for _, size in changes.groups])
    for (change, size), at in zip(changes.groups, parts, strict=True):
        some = levels if size == len(levels) else levels.index_select(0, at)
        CHANGES[change](some, changes.amounts[:, change].index_select(0, at)[:, None, None, None])
        if some is not levels:
            levels.index_copy_(0, at, some)
    frames.copy_(levels.to(torch.int16))  # from there to uint8 is a faster way


def jitter_in_parts(
    frames: Tensor, orders: NDArray[np.int64], amounts: NDArray[np.float64]
) -> None:
    """As `jitter` with `Jitter.of(orders, amounts)`, a few frames at a time: for a CPU."""
    step = max(1, AT_ONCE // frames[0].numel())
    for start in range(0, len(frames), step):
        part = slice(start, start + step)
        jitter(frames[part], Jitter.of(orders[part], amounts[part]))


def make_grey(frames: Tensor) -> None:
    """Replace the colours of (..., 3, H, W) uint8 by their grey level, where they are."""
    frames.copy_(_grey(frames).unsqueeze(-3))


def _grey(frames: Tensor) -> Tensor:
    """(..., 3, H, W) -> (..., H, W) float32 grey levels, whole numbers."""
    red, green, blue = frames.unbind(-3)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _brighten(levels: Tensor, amounts: Tensor) -> None:
    _whole(levels.mul_(amounts.float()))


def _contrast(levels: Tensor, amounts: Tensor) -> None:
    # Sums of whole numbers are exact in any order: of a row in float32, of all rows in float64.
    total = _grey(levels).sum(-1).sum(-1, dtype=torch.float64)
    mean = total.float() / (levels.shape[-2] * levels.shape[-1])
    _blend(levels, mean[:, None, None, None], amounts)


def _saturate(levels: Tensor, amounts: Tensor) -> None:
    _blend(levels, _grey(levels)[:, None], amounts)


def _blend(levels: Tensor, other: Tensor, amounts: Tensor) -> None:
    """`amounts` of the levels, the rest of `other`."""
    rest = (1.0 - amounts).float()
    levels.mul_(amounts.float())
    if len(levels) == 1 and not levels.is_cuda:
        levels.add_(other, alpha=float(rest))  # the same, vectorised
    else:
        levels.addcmul_(other, rest)
    _whole(levels)


def _whole(levels: Tensor) -> None:
    levels.clamp_(0.0, 255.0).floor_()


def shift_hue(levels: Tensor, turns: Tensor) -> None:
    """Shift the hue by `turns` of the colour circle, -0.5 to 0.5 each.

    As torchvision's adjust_hue within one grey level, in far less time. Choices are made by
    numbers that are 0 or 1: torch's `where` takes as long as seven such operations.
    """
    red, green, blue = levels.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # 1 where this is the highest of three whole numbers, which its distance to it tells.
    is_red = (red - high).add_(1.0).clamp_(min=0.0)
    is_green = (green - high).add_(1.0).clamp_(min=0.0)
    is_green.addcmul_(is_green, is_red, value=-1.0)
    # The angle in sixths of the circle: 0 red, 2 green, 4 blue; its fraction from the two lower.
    hue = red - green
    if_red, if_green = (green - blue).sub_(hue), (blue - red).sub_(hue)
    hue.addcmul_(is_red, if_red).addcmul_(is_green, if_green)
    hue /= chroma.clamp(min=1.0)
    circle = is_red.mul_(-4.0).add_(is_green, alpha=-2.0).add_(4.0)
    hue += circle.add_((6.0 * turns[:, 0]).float())
    hue -= (hue / 6.0).floor_().mul_(6.0)
    low += 0.5  # so that rounding down rounds
    for channel, place, sign in ((0, 3.0, 1.0), (1, 2.0, -1.0), (2, 4.0, -1.0)):
        # |hue - 3| - 1, 2 - |hue - 2|, 2 - |hue - 4|
        share = (hue - place).abs_().mul_(sign).add_(-1.0 if sign > 0 else 2.0)
        share.clamp_(0.0, 1.0).mul_(chroma).add_(low)
        levels[:, channel] = share.floor_()


CHANGES: tuple[Change, ...] = (_brighten, _contrast, _saturate, shift_hue)
