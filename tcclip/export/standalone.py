"""What an exported file offers: loading the model of its folder, reading videos, predicting."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from tcclip.config import AugmentConfig, Geometry, ModelConfig, Precision, Views
from tcclip.data.decode.pyav_reader import read_sequentially
from tcclip.data.decode.video_file import DecodingError
from tcclip.data.sampling import Indices, view_indices
from tcclip.data.transforms import EvalTransform, normalise
from tcclip.model.tc_clip import Model
from tcclip.step import autocast

WEIGHTS, SETTINGS = "model.safetensors", "model.json"
#: A video: a file's path, or its frames (F, height, width, 3), RGB uint8.
Video = str | Path | NDArray[np.uint8] | Tensor


@dataclass(frozen=True)
class VideoClassifier:
    """A model, the classes it was trained on, how videos become its input, and its precision."""

    model: Model
    augment: AugmentConfig
    precision: Precision

    @property
    def class_names(self) -> tuple[str, ...]:
        """What `predict` chooses from unless it is given other classes."""
        return self.model.class_names

    def views(self, video: Video, clips: int = 1, crops: int = 1) -> Tensor:
        """A video -> the model's input (views, T, 3, S, S), float32, normalised, on its device.

        `clips` temporal views, each of T frames spread over the video, times `crops`, 1 or 3.
        """
        views = Views(clips=clips, crops=crops, sampling="uniform")
        frames = self.model.config.num_frames

        def choose(total: int) -> Indices:
            return view_indices(total, frames, views, 0, "").flatten()

        chosen = torch.from_numpy(chosen_frames(video, choose))
        cropped = EvalTransform(self.augment, crops)(chosen.numpy())
        # (crops, clips * T, 3, S, S) -> (clips * crops, T, 3, S, S)
        pixels = cropped.unflatten(1, (clips, frames)).transpose(0, 1).flatten(0, 1)
        return normalise(pixels.to(self.model.logit_scale.device), self.augment)

    @torch.inference_mode()
    def logits(self, videos: Tensor, classes: Sequence[str] | None = None) -> Tensor:
        """What `views` gives -> logits (views, n), for `classes` or the model's own."""
        with autocast(self.precision, self.model.logit_scale.device):
            features = self.model.encode_video(videos.to(self.model.logit_scale.dtype))
            return self.model.score(features, self.model.encode_classes(classes))

    def probabilities(
        self, video: Video, classes: Sequence[str] | None = None, clips: int = 1, crops: int = 1
    ) -> Tensor:
        """(n,) probabilities of the classes, the mean over the views."""
        logits = self.logits(self.views(video, clips, crops), classes)
        return logits.float().softmax(-1).mean(0).cpu()

    def predict(
        self,
        video: Video,
        classes: Sequence[str] | None = None,
        *,
        top: int = 5,
        clips: int = 1,
        crops: int = 1,
    ) -> list[tuple[str, float]]:
        """The `top` classes of a video with their probabilities, best first.

        `classes`: any texts. ValueError for an empty list, a name that is too long, a video that
        cannot be read.
        """
        probabilities = self.probabilities(video, classes, clips, crops)
        names = self.class_names if classes is None else classes
        best = probabilities.argsort(descending=True, stable=True)[:top]
        return [(names[i], float(probabilities[i])) for i in best.tolist()]


def load(
    folder: str | Path | None = None, device: str = "cpu", precision: Precision | None = None
) -> VideoClassifier:
    """The model of an exported folder; by default of the one this file is in.

    `precision`: "fp32", "bf16" or "fp16"; by default what the model was tested in.
    FileNotFoundError for a file that is missing, ValueError for one that does not fit.
    """
    place = Path(__file__).parent if folder is None else Path(folder)
    for name in (WEIGHTS, SETTINGS):
        if not (place / name).is_file():
            raise FileNotFoundError(f"{place} is not an exported model: it has no {name}")
    about = json.loads((place / SETTINGS).read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = Model(_config(about["model"]))
    # Copied: in the file they lie at other addresses than multiples of 64, where products of
    # matrices round differently.
    model.to_empty(device="cpu").load_state_dict(load_file(place / WEIGHTS))
    model.set_class_names(about["class_names"])
    augment = AugmentConfig(**about["test_view"])
    return VideoClassifier(model.eval().to(device), augment, precision or about["precision"])


def _config(given: dict[str, Any]) -> ModelConfig:
    # A method's further settings are about its training.
    settings = {name: x for name, x in given.items() if name in ModelConfig.__annotations__}
    settings["prompt_layers"] = tuple(given["prompt_layers"])
    if given["geometry"] is not None:
        settings["geometry"] = Geometry(**given["geometry"])
    return ModelConfig(**settings)


def chosen_frames(video: Video, choose: Any) -> NDArray[np.uint8]:
    """(T, height, width, 3) RGB uint8: the frames that `choose` picks from their number."""
    if isinstance(video, str | Path):
        return read_frames(Path(video), choose)
    frames = np.asarray(video)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(
            f"the video has shape {frames.shape} and type {frames.dtype}; "
            "give a path, or its frames (F, height, width, 3), RGB, uint8"
        )
    return np.ascontiguousarray(frames[choose(len(frames))])


def read_frames(path: Path, choose: Any) -> NDArray[np.uint8]:
    """The chosen frames of a file, as the ffmpeg program shows them; needs PyAV."""
    if find_spec("av") is None:
        raise ImportError("to read video files, install PyAV: pip install av")
    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}")
    try:
        return read_sequentially(path, choose)[0]
    except DecodingError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def main() -> None:
    """Print the best classes of video files."""
    parser = argparse.ArgumentParser(description="Classify videos.")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--classes", help='Comma list of other classes, e.g. "juggling,cooking".')
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    classes = [name.strip() for name in given.classes.split(",")] if given.classes else None
    try:
        classifier = load(device=given.device)
        classifier.model.encode_classes(classes)  # wrong names are no video's fault
        unread = sum(not _shown(classifier, video, classes, given.top) for video in given.videos)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))
    if unread:
        parser.exit(1, f"{unread} of {len(given.videos)} videos could not be read\n")


def _shown(
    classifier: VideoClassifier, video: str, classes: Sequence[str] | None, top: int
) -> bool:
    """Print the best classes of a video, or why it cannot be read; whether it could."""
    print(video)
    try:
        found = classifier.predict(video, classes, top=top)
    except (OSError, ValueError) as error:
        print(f"  {error}")
        return False
    for name, probability in found:
        print(f"  {probability:6.1%}  {name}")
    return True


if __name__ == "__main__":
    main()
