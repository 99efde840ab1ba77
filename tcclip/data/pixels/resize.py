"""OpenCV's bilinear resizing of 8-bit images (INTER_LINEAR), to the bit, as tensor operations.

OpenCV computes in whole numbers. A weight is a fraction of 2048. Along x two neighbours are
weighted and four bits of the sum cut off; along y each of two such rows is weighted and sixteen
bits cut off; the sum is rounded by its last two bits. Cutting off makes images darker by 0.13 grey
levels on average, which the published numbers contain.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

#: A weight of 1.
ONE = 2048
#: How many values are computed at once: on a CPU what its cache holds, on a GPU what is little
#: beside a model's memory.
AT_ONCE_CPU, AT_ONCE_GPU = 2**18, 2**27


class Window(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Taps(NamedTuple):
    """For each of S new places the two old ones it lies between, int64, and the weight of the
    second, int32, the first's being `ONE` less that. Each (1, S), or (b, S) for clips that differ.
    """

    first: Tensor
    second: Tensor
    weight: Tensor

    def part(self, start: int, length: int) -> Taps:
        """Of the `length` new places from `start` on."""
        return Taps(*(tensor[:, start : start + length] for tensor in self))


@functools.lru_cache(maxsize=256)
def taps(old: int, new: int, *, columns: bool) -> Taps:
    """How `old` pixels become `new` ones: along x (`columns`) or along y."""
    # In double precision, then cut to single, with the scale as OpenCV computes it.
    places = ((torch.arange(new, dtype=torch.float64) + 0.5) * (1.0 / (new / old)) - 0.5).float()
    first = places.floor()
    share = places - first
    if columns:
        # Along y the two places beyond a border are the same row, but each is cut off.
        share[(first < 0) | (first >= old - 1)] = 0.0
    at = first.long()
    weight = (share * ONE).round().int()
    return Taps(at.clamp(0, old - 1)[None], (at + 1).clamp(0, old - 1)[None], weight[None])


def resize(video: Tensor, height: int, width: int, window: Window | None = None) -> Tensor:
    """(T, 3, h, w) uint8 -> (T, 3, height, width), or only the `window` of that."""
    window = window or Window(0, 0, height, width)
    if video.shape[-2:] == (height, width):
        top, left, tall, wide = window
        return video[..., top : top + tall, left : left + wide]
    rows = taps(video.shape[-2], height, columns=False).part(window.top, window.height)
    columns = taps(video.shape[-1], width, columns=True).part(window.left, window.width)
    # Only the pixels that are looked at.
    top, bottom = int(rows.first[0, 0]), int(rows.second[0, -1])
    left, right = int(columns.first[0, 0]), int(columns.second[0, -1])
    video = video[None, ..., top : bottom + 1, left : right + 1]
    rows = Taps(rows.first - top, rows.second - top, rows.weight)
    columns = Taps(columns.first - left, columns.second - left, columns.weight)
    return resample(video, rows, columns)[0]


def resample(video: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """(b, T, 3, h, w) uint8 -> (b, T, 3, H, W) uint8, by the taps of H rows and W columns."""
    b, frames, channels, height, _ = video.shape
    tall, wide = rows.weight.shape[-1], columns.weight.shape[-1]
    new = video.new_empty(b, frames, channels, tall, wide)
    at_once = AT_ONCE_GPU if video.is_cuda else AT_ONCE_CPU
    step = max(1, at_once // (b * channels * max(height, tall) * wide))
    for old, into in zip(video.split(step, 1), new.split(step, 1), strict=True):
        part = old.contiguous()
        weight = columns.weight[:, None, None, None, :]
        across = _at_columns(part, columns.first).int().mul_(ONE - weight)
        across += _at_columns(part, columns.second).int().mul_(weight)
        across >>= 4
        weight = rows.weight[:, None, None, :, None]
        # Both products are cut off after 16 bits; the last two bits of their sum are rounded. The
        # second product's bits may stay until then: they are fewer than one.
        down = _at_rows(across, rows.first).mul_(ONE - weight).bitwise_and_(-(2**16))
        down += _at_rows(across, rows.second).mul_(weight)
        down += 2 << 16
        down >>= 18
        into.copy_(down)
    return new


def _at_columns(video: Tensor, places: Tensor) -> Tensor:
    """The columns of (b, t, 3, h, w) at `places` (1 or b, W)."""
    index = places[:, None, None, None, :].expand(*video.shape[:-1], -1)
    return video.gather(-1, index)


def _at_rows(video: Tensor, places: Tensor) -> Tensor:
    """The rows of (b, t, 3, h, w) at `places` (1 or b, H)."""
    if len(places) == 1:
        return video.index_select(-2, places[0])  # copies whole rows
    index = places[:, None, None, :, None]
    return video.gather(-2, index.expand(*video.shape[:-2], -1, video.shape[-1]))
