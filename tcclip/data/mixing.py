"""CutMix and Mixup with smoothed targets, on the video's device (SPEC 3)."""

from __future__ import annotations

import numpy as np
import torch

from tcclip.config import MixConfig
from tcclip.data.seeding import seeded_rng


def smooth_targets(labels: torch.Tensor, n_classes: int, smoothing: float) -> torch.Tensor:
    """(b,) class ids -> (b, n) float32: off = smoothing / n, on = 1 - smoothing + smoothing / n."""
    off = smoothing / n_classes
    targets = torch.full((len(labels), n_classes), off, device=labels.device)
    return targets.scatter_(1, labels.long()[:, None], 1.0 - smoothing + off)


def mix(
    video: torch.Tensor,
    labels: torch.Tensor,
    indices: torch.Tensor,
    *,
    n_classes: int,
    config: MixConfig,
    seed: int,
    epoch: int,
    step: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix groups of neighbours in the global order; soft targets (b, n) float32.

    `video` (b, T, 3, H, W) float, normalised; `labels` (b,); `indices` (b,) positions in the
    epoch's global order, whole groups of `config.group` neighbours. Each group's draws are a
    function of (seed, epoch, step, group number), so micro-batches and ranks do not matter.
    With probability 0 the video is returned unchanged.
    """
    targets = smooth_targets(labels, n_classes, config.smoothing)
    if config.probability == 0:
        return video, targets
    video = video.clone()
    for at, number in enumerate((indices[:: config.group] // config.group).tolist()):
        rows = slice(at * config.group, (at + 1) * config.group)
        rng = seeded_rng("mix", seed, epoch, step, number)
        video[rows], targets[rows] = _mix_group(video[rows], targets[rows], config, rng)
    return video, targets


def _mix_group(
    video: torch.Tensor, targets: torch.Tensor, config: MixConfig, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One group mixed with a permutation of itself: one lambda, one box for all its frames."""
    if rng.random() >= config.probability:
        return video, targets
    cut = rng.random() < config.cutmix_share
    alpha = config.cutmix_alpha if cut else config.mixup_alpha
    share = float(rng.beta(alpha, alpha))
    # Numbers, not a tensor of indices: that would be copied to the device, and waited for.
    partners = rng.permutation(len(video)).tolist()
    if cut:
        top, bottom, left, right = _box(video.shape[-2], video.shape[-1], share, rng)
        mixed = video.clone()
        boxes = [video[i, ..., top:bottom, left:right] for i in partners]
        mixed[..., top:bottom, left:right] = torch.stack(boxes)
        # The box is clipped at the frame: only the pasted area counts.
        share = 1.0 - (bottom - top) * (right - left) / (video.shape[-2] * video.shape[-1])
    else:
        mixed = share * video + (1.0 - share) * torch.stack([video[i] for i in partners])
    others = torch.stack([targets[i] for i in partners])
    return mixed, share * targets + (1.0 - share) * others


def _box(
    height: int, width: int, share: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a box of 1 - share of the area, centred anywhere, clipped."""
    side = float(np.sqrt(1.0 - share))
    box_height, box_width = int(height * side), int(width * side)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = np.clip([y - box_height // 2, y + box_height // 2], 0, height)
    left, right = np.clip([x - box_width // 2, x + box_width // 2], 0, width)
    return int(top), int(bottom), int(left), int(right)
