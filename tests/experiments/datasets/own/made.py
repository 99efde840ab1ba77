"""Made class folders and small settings, for tests of own data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tcclip.data.shape_video import PALETTE, render_clip, write_video
from tests.experiments.planning.lists import SETTINGS

#: A tiny model, one epoch: for `--set`.
SMALL = SETTINGS | {"train.epochs": 1, "train.schedule_batch": 4}


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
