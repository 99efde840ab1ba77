"""Speeds that costs are estimated with, each with where it was measured. Change them here alone."""

from __future__ import annotations

from tcclip.config import ModelConfig

#: The model whose rates are given (tc_clip, ViT-B/16, 16 frames); others by their multiply-adds.
MODEL = ModelConfig()
#: What an H200 computes a second of `MODEL`, in bf16, compiled, 32 clips or views at once.
TRAINING_CLIPS, TEST_VIEWS = 150, 364
GPU_SOURCE = "docs/gpu_bench_2026-11-27.md"
GPU_RATES = (
    f"measured on an H200 ({GPU_SOURCE}): {TRAINING_CLIPS} training clips and {TEST_VIEWS} test "
    "views a second of tc_clip"
)

#: Clips of 16 frames that a loader process prepares in a second of one core, by data set: the
#: column "loader", one core (moving shapes: half of two); K600 as K400.
CLIPS = {
    "k400": 6.0, "k600": 6.0, "hmdb51": 17.8, "ucf101": 19.9, "ssv2": 15.0, "moving_shapes": 24.0,
}  # fmt: skip
#: From a pack: the column "pack ms" (K600 as K400).
PACKED_CLIPS = {"k400": 60.0, "k600": 60.0, "hmdb51": 75.0, "ucf101": 120.0, "ssv2": 60.0}
#: For other data sets: as for K400, the slowest.
OTHER_CLIPS, OTHER_PACKED_CLIPS = 6.0, 60.0
CLIPS_SOURCE, PACKED_SOURCE = "docs/data_bench_2026-11-24.md", "docs/packs.md"


def clip_seconds(dataset: str, packed: bool) -> float:
    """Seconds of one core that a clip of a data set takes to be decoded, cropped and resized."""
    rates = (PACKED_CLIPS, OTHER_PACKED_CLIPS) if packed else (CLIPS, OTHER_CLIPS)
    return 1 / rates[0].get(dataset, rates[1])
