"""Made class folders and small settings, for tests of own data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcclip.data.shape_video import PALETTE, render_clip, write_video

#: A tiny model, one epoch: for `--set`.
SMALL = {
    "model.backbone": "tiny", "model.num_frames": 4, "model.context_tokens": 4,
    "model.merge_step": 8, "model.text_length": 16, "model.prompt_layers": [2],
    "augment.resize": 36, "augment.crop": 32, "train.clip_weights": "random",
    "train.precision": "fp32", "train.epochs": 1, "train.warmup_epochs": 0,
    "train.global_batch": 4, "train.schedule_batch": 4,
}  # fmt: skip


def empty_videos(folder: Path, paths: Sequence[str]) -> Path:
    """Files that are called like videos."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return folder


def class_folders(folder: Path, classes: Sequence[str], videos: int) -> Path:
    """A folder of small videos a class, each class a colour."""
    for colour, name in zip(PALETTE, classes, strict=False):
        (folder / name).mkdir(parents=True)
        for number in range(videos):
            rng = np.random.default_rng(number)
            frames = render_clip(colour, "circle", "sliding side to side", rng)
            write_video(folder / name / f"clip {number}.mp4", frames)
    return folder
