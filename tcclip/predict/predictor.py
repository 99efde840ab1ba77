"""A model that says what videos show.

Shape legend: T frames, S pixels a side, v views of a video, w windows, n classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray

from tcclip.config import AugmentConfig, Execution, ModelConfig, Precision, Views
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.transforms import normalise
from tcclip.model import Model
from tcclip.model.text import ClassFeatures
from tcclip.predict.calibration import Calibration
from tcclip.predict.prediction import Prediction
from tcclip.predict.question import Question, Reject, rejection
from tcclip.predict.reading import Block, ClipReader, Source, read_all
from tcclip.predict.windows import Timeline
from tcclip.step import autocast

Video = str | Path | Source
#: Views that are encoded at once, as in an evaluation: another number may round differently.
BATCH = Execution().eval_batch


class Asked(TypedDict, total=False):
    """What may be asked of videos: see `Predictor.predict`."""

    classes: Sequence[str] | None
    prompts: Sequence[str]
    top: int
    views: str | Views
    window: str | float | None
    stride: str | float | None
    reject: Reject
    calibrated: bool


@dataclass
class Predictor:
    """A model with all that its videos and its answers depend on; `tcclip.load` makes one.

    `model`: on its device, in evaluation mode, without gradients. `augment`: how videos are
    cropped and normalised. `precision`: what it computes in. `seed`: draws the temporal views
    where there are several. `source`, `ensemble`: where its weights are from, and their share.
    `calibration`: of its probabilities, if `tcclip calibrate` has measured it.
    """

    model: Model
    augment: AugmentConfig
    precision: Precision
    seed: int
    source: str
    ensemble: float | None = None
    calibration: Calibration | None = None
    #: The class list that was encoded last.
    _encoded: dict[tuple[str, ...], ClassFeatures] = field(default_factory=dict, repr=False)

    @property
    def config(self) -> ModelConfig:
        """The model's settings."""
        return self.model.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are chosen from if no others are given."""
        return self.model.class_names

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is a sequence of texts
        self, video: Video, **asked: Unpack[Asked]
    ) -> Prediction: ...
    @overload
    def predict(self, video: Sequence[Video], **asked: Unpack[Asked]) -> list[Prediction]: ...
    def predict(
        self, video: Video | Sequence[Video], **asked: Unpack[Asked]
    ) -> Prediction | list[Prediction]:
        """The most probable classes of a video, or of each of several.

        `video`: a file, or a folder of frames (00001.jpg, ...). What may be asked:
        `classes`: names in any words, by default the model's own. `prompts`: texts with {} for a
        class's name ("a clip of {}"), which take its place; their logits are averaged. `top`: how
        many classes are named, 5. `views`: temporal clips x crops (1 or 3), "1x1". `window`,
        `stride`: lengths such as "4s" or "64f" (frames), for a timeline of a long video; without
        `stride`, a window begins where the last ends. `reject`: what tells a video that shows none
        of the classes: a text for such videos ("a person standing still"), the probability that
        the best class has to reach, "calibrated" for the measured one, or several of these.
        `calibrated`: whether a calibration is applied if there is one, True.

        UnreadableVideo for a video that cannot be read; of several, its prediction has the cause
        as `error`. ValueError for what cannot be asked, such as a class name that is too long.
        """
        question = self.question(**asked)
        if not isinstance(video, str | Path | Source):
            return list(self.answers(question, video))
        (found,) = self.answers(question, [video])
        if found.error is not None:
            raise UnreadableVideo(found.video, found.error)
        return found

    def question(
        self, *, classes: Sequence[str] | None = None, prompts: Sequence[str] = (), top: int = 5,
        views: str | Views = "1x1", window: str | float | None = None,
        stride: str | float | None = None, reject: Reject = None, calibrated: bool = True,
    ) -> Question:  # fmt: skip
        """What `predict` asks with these arguments. ValueError for what cannot be asked."""
        if isinstance(classes, str):
            raise ValueError(f"classes {classes!r}: give a list of names")
        if stride is not None and window is None:
            raise ValueError(f"stride {stride!r} is of windows; give their length too (window)")
        calibration = self.calibration if calibrated else None
        background, threshold = rejection(reject, calibration)
        asked = Question(
            classes=self.class_names if classes is None else tuple(classes),
            templates=(prompts,) if isinstance(prompts, str) else tuple(prompts),
            background=background,
            threshold=threshold,
            top=top,
            views=self._views(views),
            timeline=None if window is None else Timeline.of(window, stride),
            calibration=calibration,
        )
        self.encode_classes(asked.scored.prompts)
        return asked

    def answers(
        self, question: Question, videos: Sequence[Video], workers: int = 1
    ) -> Iterator[Prediction]:
        """A prediction for each video, in order, as soon as it is there.

        `workers`: videos that are read at once, each by a process of its own.
        """
        if question.timeline is not None:
            yield from self._timelines(question, videos)
            return
        size = _at_once(question.views)
        sources = list(map(Source.of, videos))
        read = read_all(lambda: self._reader(question.views), sources, workers, 2 * size)
        with closing(read):
            for start in range(0, len(sources), size):
                batch = sources[start : start + size]
                yield from self._batch(question, batch, [next(read) for _ in batch])

    def clip(self, video: Video, views: str | Views = "1x1") -> torch.Tensor:
        """The model's input for a video, on its device: (v, T, 3, S, S) float, normalised.

        UnreadableVideo if it cannot be read.
        """
        with closing(self._reader(self._views(views))) as reader:
            block = next(reader.read(Source.of(video)))
        return self._input(block.video[0])

    def encode_classes(self, texts: Sequence[str] | None = None) -> ClassFeatures:
        """The text side of `texts`, by default of the model's own classes. ValueError for an empty
        list, and a name that is empty or too long."""
        key = self.class_names if texts is None else tuple(texts)
        if key not in self._encoded:
            with torch.inference_mode(), autocast(self.precision, self.device):
                self._encoded = {key: self.model.encode_classes(key)}
        return self._encoded[key]

    # ---- From pixels to scores ----

    def _input(self, video: torch.Tensor) -> torch.Tensor:
        moved = normalise(video.to(self.device), self.augment)
        return moved.to(self.model.logit_scale.dtype)

    def scores(self, question: Question, video: torch.Tensor) -> NDArray[np.float32]:
        """(w, v, T, 3, S, S) uint8 -> scores (w, classes and background texts), see `Scores`."""
        asked = question.scored
        texts = self.encode_classes(asked.prompts)
        with torch.inference_mode(), autocast(self.precision, self.device):
            features = self.model.encode_video(self._input(video.flatten(0, 1)))
            logits = self.model.score(features, texts)
        found: NDArray[np.float32] = asked.summed(logits, video.shape[1]).cpu().numpy()
        return found

    def _batch(
        self, question: Question, sources: Sequence[Source], read: Sequence[Block | UnreadableVideo]
    ) -> Iterator[Prediction]:
        blocks = [one for one in read if isinstance(one, Block)]
        scores = iter(())
        if blocks:
            scores = iter(self.scores(question, torch.cat([one.video for one in blocks])))
        for source, one in zip(sources, read, strict=True):
            if isinstance(one, UnreadableVideo):
                yield Prediction(str(source.path), error=one.cause)
            else:
                yield question.answer(str(source.path), [one], next(scores)[None])

    def _timelines(self, question: Question, videos: Sequence[Video]) -> Iterator[Prediction]:
        with closing(self._reader(question.views)) as reader:
            for source in map(Source.of, videos):
                blocks, scores = list[Block](), list[NDArray[np.float32]]()
                try:
                    for block in reader.read(source, question.timeline):
                        blocks.append(block._replace(video=block.video[:0]))
                        for windows in block.video.split(_at_once(question.views)):
                            scores.append(self.scores(question, windows))
                except UnreadableVideo as error:
                    yield Prediction(str(source.path), error=error.cause)
                else:
                    yield question.answer(str(source.path), blocks, np.concatenate(scores))

    def _reader(self, views: Views) -> ClipReader:
        return ClipReader(self.augment, self.config.num_frames, views, self.seed)

    def _views(self, views: str | Views) -> Views:
        """ValueError for a text that is not clips x crops."""
        if isinstance(views, Views):
            return views
        match = re.fullmatch(r"([1-9]\d{0,2})x([13])", views.strip())
        if match is None:
            raise ValueError(f"views {views!r}: give temporal clips x crops (1 or 3), such as 2x1")
        return Views.model_validate(
            {"clips": match[1], "crops": int(match[2]), "sampling": self.augment.view_sampling}
        )


def _at_once(views: Views) -> int:
    """Videos, or windows, that are scored at once."""
    return max(1, math.ceil(BATCH / (views.clips * views.crops)))
