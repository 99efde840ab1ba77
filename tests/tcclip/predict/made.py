"""A small checkpoint and a few short videos to predict."""

from pathlib import Path
from typing import Any

from tcclip.config import AugmentConfig
from tcclip.model import save_checkpoint
from tests.made_videos import pictures, write_video
from tests.tcclip.model.builders import NAMES, small_model

AUGMENT = AugmentConfig(resize=36, crop=32)


def make_checkpoint(folder: Path, *, names: tuple[str, ...] = NAMES, **settings: Any) -> Path:
    path = folder / "best.safetensors"
    start = {"clip_weights": "random", "seed": 3}
    model = small_model(names=names, **settings)
    save_checkpoint(model, path, start=start, augment=AUGMENT, precision="fp32")
    return path


def make_clips(folder: Path, count: int = 3, frames: int = 20) -> list[Path]:
    """Videos of different colours, 25 frames a second."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_video(folder / f"{n}.mp4", shown=pictures(frames, tint=70 * n), g="4")
        for n in range(count)
    ]
