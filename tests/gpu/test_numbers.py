"""The model computes on CUDA what it computes on a CPU: recorded cases and the oracle, float64."""

import pytest
import torch

from tcclip.config import AugmentConfig
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import TrainTransform
from tests.benchmarks.gpu_bench.drive import Bench
from tests.benchmarks.gpu_bench.numbers import GOLDEN, ORACLE, holds, precision

# Torch's releases warn of different things.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("case", GOLDEN)
def test_recorded_cases(device: torch.device, case: str) -> None:
    holds(Bench(device), case=f"golden {case}")


@pytest.mark.parametrize("case", ORACLE)
def test_the_oracle_agrees(tiny: Bench, case: str) -> None:
    holds(tiny, case=f"oracle {case}")


@pytest.mark.parametrize(("computed", "error"), [("bf16", 0.05), ("float32", 1e-4)])
def test_lower_precision_is_near(tiny: Bench, computed: str, error: float) -> None:
    assert precision(tiny, computed=computed)["relative_error"] < error


def test_augmentation_is_the_same_within_a_level(device: torch.device) -> None:
    transform, rng = TrainTransform(AugmentConfig(grey=0.5)), seeded_rng("augmentation")
    frames = rng.integers(0, 256, (8, 16, 256, 340, 3), "u1")
    crops, draws = zip(*(transform.cut(clip, rng) for clip in frames), strict=True)
    video, augmentation = transform.collate(crops, draws)
    expected = augmentation.apply(video).int()
    found = augmentation.to(device).apply(video.to(device)).cpu().int()
    assert (found - expected).abs().max() <= 1
    assert (found != expected).float().mean() < 1e-3
