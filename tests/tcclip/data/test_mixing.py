from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcclip.config import MixConfig
from tcclip.data.mixing import mix, smooth_targets


def _batch(videos: int, start: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    indices = torch.arange(start, start + videos)
    video = (indices.float() + 1).view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 8, 8).contiguous()
    return video, indices % 5, indices


def _mix(
    batch: tuple[torch.Tensor, ...], config: MixConfig, step: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    return mix(*batch, n_classes=5, config=config, seed=0, epoch=1, step=step)


def test_smoothing() -> None:
    targets = smooth_targets(torch.tensor([1]), 5, 0.1)
    assert targets[0].tolist() == pytest.approx([0.02, 0.92, 0.02, 0.02, 0.02])


def test_no_mixing_leaves_the_video() -> None:
    batch = _batch(3)
    video, targets = _mix(batch, MixConfig(probability=0))
    assert video is batch[0]
    assert torch.equal(targets, smooth_targets(batch[1], 5, 0.1))


@settings(max_examples=30)
@given(st.integers(0, 50), st.floats(0, 1), st.sampled_from([4, 8, 12]))
def test_groups_do_not_depend_on_their_batch(step: int, share: float, chunk: int) -> None:
    config = MixConfig(cutmix_share=share)
    whole, targets = _mix(_batch(24), config, step)
    parts = [_mix(_batch(chunk, start), config, step) for start in range(0, 24, chunk)]
    assert torch.equal(whole, torch.cat([video for video, _ in parts]))
    assert torch.equal(targets, torch.cat([target for _, target in parts]))
    assert torch.allclose(targets.sum(1), torch.ones(24))


@settings(max_examples=30)
@given(st.integers(0, 200), st.booleans())
def test_targets_equal_the_share_of_pixels(step: int, cut: bool) -> None:
    batch = _batch(4)
    config = MixConfig(cutmix_share=float(cut), smoothing=0.0)
    video, targets = _mix(batch, config, step)
    # One-hot rows by video: with as many classes as videos, targets say who was mixed in.
    shares = targets[:, :4]
    expected = shares @ torch.arange(1.0, 5.0)
    assert torch.allclose(video.mean((1, 2, 3, 4)), expected, atol=1e-5)
    values = [len(np.unique(one)) for one in video.numpy()]
    assert max(values) <= (2 if cut else 1)
    assert torch.equal(video[:, 0], video[:, 1]), "all frames of a video are mixed alike"


def test_probability_applies_to_groups() -> None:
    config = MixConfig(probability=0.5, mixup_alpha=5.0, cutmix_share=0.0)
    untouched = 0
    for step in range(100):
        batch = _batch(4)
        untouched += torch.equal(_mix(batch, config, step)[0], batch[0])
    assert 30 <= untouched <= 70


def test_the_input_is_not_written_to() -> None:
    batch = _batch(8)
    before = batch[0].clone()
    _mix(batch, MixConfig())
    assert torch.equal(batch[0], before)
