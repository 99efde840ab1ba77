"""A video explained: what the model saw, looked at, chose, merged and said.

Shape legend: T frames, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tcclip.config import AugmentConfig, ModelConfig
from tcclip.data.transforms import NORMALISATIONS
from tcclip.explanation.attention import LayerView, encode
from tcclip.explanation.prompting import ClassScores, class_scores
from tcclip.predict import Predictor, load
from tcclip.step import autocast

KINDS = {
    "none": "frame by frame",
    "cls": "cross-frame attention",
    "window": "temporal window",
    "joint": "joint space-time attention",
    "context": "temporal contextualization",
}


@dataclass(frozen=True)
class Explanation:
    """What a model did with one view of a video.

    `frames` (T, S, S, 3) uint8: what it saw. `layers`: its vision layers, first to last. `scores`:
    of the classes. `video` and `source`: where these and its weights are from.
    """

    video: str
    source: str
    config: ModelConfig
    frames: NDArray[np.uint8]
    layers: tuple[LayerView, ...]
    scores: ClassScores

    @property
    def kind(self) -> str:
        """What a frame may attend to, in words."""
        return KINDS[self.config.frame_attention]

    @property
    def title(self) -> str:
        """The model in a few words: name, and what sets it apart."""
        prompting = " and prompting" if self.config.prompted_layers else ""
        return f"{self.config.name}, {self.kind}{prompting}"


def explain(
    video: str | Path, model: Predictor | str | Path, *, classes: Sequence[str] | None = None
) -> Explanation:
    """What `model` attends to in a video, which patches it chooses and merges, what it says.

    `video`: a file or a folder of frames; one view of it is explained, the one that `predict`
    looks at by default. `model`: a predictor, or what `tcclip.load` takes. `classes`: names in any
    words, by default the model's own. Errors: as `tcclip.load` and `Predictor.predict`.
    """
    predictor = model if isinstance(model, Predictor) else load(model, classes=classes)
    names = predictor.class_names if classes is None else tuple(classes)
    texts = predictor.encode_classes(names)
    clip = predictor.clip(video)
    with torch.inference_mode(), autocast(predictor.precision, predictor.device):
        features, layers = encode(predictor.model, clip)
        scores = class_scores(
            predictor.model, names, lambda: predictor.model.score(features, texts)[0]
        )
    return Explanation(
        video=str(video).encode("utf-8", "backslashreplace").decode(),  # whatever its name's bytes
        source=predictor.source,
        config=predictor.config,
        frames=_pixels(clip[0], predictor.augment),
        layers=layers,
        scores=scores,
    )


def _pixels(clip: torch.Tensor, augment: AugmentConfig) -> NDArray[np.uint8]:
    """(T, 3, S, S) normalised -> (T, S, S, 3) uint8, as they were."""
    mean, std = (torch.tensor(one) for one in NORMALISATIONS[augment.normalisation])
    pixels: NDArray[np.uint8] = (
        (clip.float().cpu().permute(0, 2, 3, 1) * std + mean).round().to(torch.uint8).numpy()
    )
    return pixels
