"""Evaluation in one pass (SPEC 4, 5): each video is decoded once for a view mode, encoded once
for each weight set, and scored against the class list of every split that holds it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from tcclip.accuracy import top_k_correct
from tcclip.config import AugmentConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.loader import EvalLoader
from tcclip.data.transforms import normalise
from tcclip.distributed import Ranks
from tcclip.model import Model
from tcclip.model.tc_clip import VideoFeatures
from tcclip.model.text import ClassFeatures

log = logging.getLogger(__name__)

#: Compiled code's logits are wrong if they are further from eager code's, as a share of these.
#: Rounding in bf16, which patches it chooses included, moved random weights' by 0.06.
WRONG = 0.3


@dataclass(frozen=True)
class EvalList:
    """One split to be scored: its videos, and the class names its label ids index.

    `all_names`: where classes have several names, those of each; their logits are averaged.
    """

    suite: str
    dataset: str
    split: str
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    views: Views
    all_names: tuple[tuple[str, ...], ...] | None = None

    @property
    def prompts(self) -> tuple[str, ...]:
        """The names that are encoded, class after class."""
        return self.class_names if self.all_names is None else tuple(chain(*self.all_names))

    def scored_as(self, other: EvalList) -> bool:
        """Whether a model gives both the same scores; they may be called differently."""
        return replace(self, suite=other.suite, split=other.split) == other

    def summed(self, logits: torch.Tensor, views: int) -> torch.Tensor:
        """Logits (videos * views, prompts) -> scores (videos, classes), see `Scores`."""
        logits = logits.float()
        if self.all_names is not None:
            parts = logits.split([len(names) for names in self.all_names], dim=-1)
            logits = torch.stack([part.mean(-1) for part in parts], dim=-1)
        summed: torch.Tensor = logits.softmax(-1).unflatten(0, (-1, views)).sum(1)
        return summed


@dataclass
class Scores:
    """Scores of one list under one weight set, one row for each video in the list's order.

    `values` (videos, classes) float32: sum over views of softmax(logits), so a row sums to the
    number of views; zeros where the video was not `readable`. `causes`: path -> why not;
    `readers`: path -> the method that read it.
    """

    values: NDArray[np.float32]
    readable: NDArray[np.bool_]
    causes: dict[str, str] = field(default_factory=dict)
    readers: dict[str, str] = field(default_factory=dict)

    def top(self, k: int, labels: Sequence[int]) -> float:
        """Percent of all videos whose label is among the k best (see `tcclip.accuracy`)."""
        return float(
            100.0 * top_k_correct(self.values, np.asarray(labels), self.readable, k).mean()
        )


#: (model's key, index of the list) -> its scores.
AllScores = dict[tuple[str, int], Scores]


@dataclass(frozen=True)
class Evaluator:
    """What every evaluation of a run shares. `loader` makes the loader of some videos' views."""

    loader: Callable[[str, Sequence[Item], Views], EvalLoader]
    augment: AugmentConfig
    ranks: Ranks
    autocast: Callable[[], torch.autocast]
    compile: bool = False

    def evaluate(self, models: Mapping[str, Model], lists: Sequence[EvalList]) -> AllScores:
        """Score `lists` under every model: (model's key, index of the list) -> Scores.

        Every rank gets all the scores; each video is decoded on exactly one of them.
        """
        results = {
            (key, number): Scores(
                np.zeros((len(one.items), len(one.class_names)), np.float32),
                np.zeros(len(one.items), np.bool_),
            )
            for key in models
            for number, one in enumerate(lists)
        }
        for model in models.values():
            model.eval()
            model.set_compiled(self.compile)
        with torch.inference_mode():
            for group in group_lists(lists):
                own = self._score_group(models, lists, group)
                for part in self.ranks.gather(own):
                    part.copy_into(results, lists)
        return results

    def _score_group(
        self, models: Mapping[str, Model], lists: Sequence[EvalList], group: ListGroup
    ) -> _RankScores:
        """This rank's share of the videos of one group."""
        part = _RankScores()
        with self.autocast():
            classes = {
                (key, names): model.encode_classes(list(names))
                for key, model in models.items()
                for names in dict.fromkeys(lists[number].prompts for number in group.members)
            }
        size = 0
        for batch in self.loader(group.dataset, group.items, group.views):
            part.causes |= {group.items[i].path: why for i, why in batch.unreadable.items()}
            part.readers |= {group.items[i].path: how for i, how in batch.readers.items()}
            if not len(batch.indices):
                continue
            # (b, views, T, 3, H, W) uint8 -> (b * views, T, 3, H, W) normalised, on the device
            video = batch.video.flatten(0, 1).to(self.ranks.device, non_blocking=True)
            size = max(size, len(video))
            video = self._padded(normalise(video, self.augment), size)
            targets = [group.rows[int(i)] for i in batch.indices]
            for key, model in models.items():
                features = self._encode(model, video, classes[key, lists[group.members[0]].prompts])
                for number in group.members:
                    listed = [b for b, rows in enumerate(targets) if number in rows]
                    if not listed:
                        continue
                    picked = self._views_of(listed, *batch.video.shape[:2])
                    with self.autocast():
                        logits = model.score(features[picked], classes[key, lists[number].prompts])
                    summed = lists[number].summed(logits, batch.video.shape[1])
                    part.add(key, number, [targets[b][number] for b in listed], summed)
        part.fetch()
        return part

    def _encode(self, model: Model, video: torch.Tensor, classes: ClassFeatures) -> VideoFeatures:
        """The features of `video`, compared with eager code's where compiled code is new.

        No table may rest on what a compiler got wrong: then eager code is used, after one warning.
        """
        compiler = model.vision.compiler
        video = video.to(model.logit_scale.dtype)
        with self.autocast():
            features = model.encode_video(video)
            if compiler is None or compiler.compared or not compiler.enabled:
                return features
            compiler.compared, compiler.enabled = True, False
            eager = model.encode_video(video)
            expected, found = (model.score(one, classes) for one in (eager, features))
        # False if there are NaNs.
        compiler.enabled = bool((found - expected).norm() <= WRONG * expected.norm())
        if compiler.enabled:
            return features
        log.warning("slower from here on, as compiled code's scores are wrong")
        return eager

    def _padded(self, video: torch.Tensor, size: int) -> torch.Tensor:
        """Compiled code has one size, whatever the last batch holds and how much was readable."""
        if not self.compile or len(video) == size:
            return video
        return torch.cat([video, video[:1].expand(size - len(video), *video.shape[1:])])

    def _views_of(self, listed: Sequence[int], videos: int, views: int) -> slice | torch.Tensor:
        """The rows of the listed ones of a batch's videos; never waits for the device."""
        if len(listed) == videos:
            return slice(videos * views)
        rows = torch.tensor([b * views + v for b in listed for v in range(views)])
        rows = rows.pin_memory() if self.ranks.device.type == "cuda" else rows
        return rows.to(self.ranks.device, non_blocking=True)


@dataclass
class Validations:
    """A run's validations. Final tests on a list that was validated on take its scores.

    The scores of the best and the last epoch are kept. Where the run was resumed after these, they
    are computed again from the same batches, so they are the same.
    """

    evaluator: Evaluator
    lists: Sequence[EvalList]
    _kept: dict[int, AllScores] = field(default_factory=dict)
    _best: tuple[float, int] = (-math.inf, 0)

    def validate(self, model: Model) -> AllScores:
        """The scores of `model`, whose key is "", on the validation lists."""
        return self.evaluator.evaluate({"": model}, self.lists)

    def keep(self, epoch: int, scores: AllScores, top1: float) -> None:
        """Keep the scores after `epoch` as long as it is the last one, or its `top1` the best."""
        if top1 > self._best[0]:
            self._best = top1, epoch
        self._kept[epoch] = scores
        self._kept = {one: self._kept[one] for one in {self._best[1], epoch}}

    def final(
        self, models: Mapping[str, tuple[Model, int | None]], lists: Sequence[EvalList]
    ) -> AllScores:
        """Score `lists` under every model: as `Evaluator.evaluate`.

        `models`: by key, with the epoch after which a model was validated just as it is, or None.
        """
        validated = {
            number: known
            for number, one in enumerate(lists)
            for known, other in enumerate(self.lists)
            if one.scored_as(other)
        }
        results: AllScores = {}
        for key, (model, epoch) in models.items() if validated else ():
            if epoch is not None:
                scores = self._kept.get(epoch) or self.validate(model)
                results |= {(key, number): scores["", at] for number, at in validated.items()}
        others = [number for number in range(len(lists)) if number not in validated]
        mixed = {key: model for key, (model, epoch) in models.items() if epoch is None}
        every = {key: model for key, (model, _) in models.items()}
        for numbers, some in ((others, every), (list(validated), mixed)):
            found = self.evaluator.evaluate(some, [lists[n] for n in numbers]) if some else {}
            results |= {(key, numbers[at]): scores for (key, at), scores in found.items()}
        return results


@dataclass(frozen=True)
class ListGroup:
    """The lists that share a data set and view mode, and the union of their videos.

    `rows[i]`: for video i of `items`, its rows in each member list that holds it.
    """

    dataset: str
    views: Views
    members: tuple[int, ...]
    items: tuple[Item, ...]
    rows: tuple[dict[int, list[int]], ...]


def group_lists(lists: Sequence[EvalList]) -> list[ListGroup]:
    """The fewest passes over videos that serve `lists`: each group holds a video once."""
    members: dict[tuple[str, Views], list[int]] = {}
    for number, one in enumerate(lists):
        members.setdefault((one.dataset, one.views), []).append(number)
    groups = []
    for (dataset, views), numbers in members.items():
        items: dict[str, Item] = {}
        rows: dict[str, dict[int, list[int]]] = {}
        for number in numbers:
            for row, item in enumerate(lists[number].items):
                items.setdefault(item.path, item)
                rows.setdefault(item.path, {}).setdefault(number, []).append(row)
        groups.append(
            ListGroup(dataset, views, tuple(numbers), tuple(items.values()), tuple(rows.values()))
        )
    return groups


@dataclass
class _RankScores:
    """What one rank scored, of each (model's key, list): the rows of each video in the list, and
    the videos' scores: `pending` parts on the device, then all, (videos, classes)."""

    rows: dict[tuple[str, int], list[list[int]]] = field(default_factory=dict)
    pending: dict[tuple[str, int], list[torch.Tensor]] = field(default_factory=dict)
    scores: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    readers: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, number: int, rows: list[list[int]], values: torch.Tensor) -> None:
        self.rows.setdefault((key, number), []).extend(rows)
        self.pending.setdefault((key, number), []).append(values)

    def fetch(self) -> None:
        """Copy from the device, once: the host would wait for it after every batch."""
        self.scores = {at: torch.cat(parts).cpu().numpy() for at, parts in self.pending.items()}
        self.pending = {}

    def copy_into(self, results: dict[tuple[str, int], Scores], lists: Sequence[EvalList]) -> None:
        for at, values in self.scores.items():
            scores = results[at]
            for rows, of_video in zip(self.rows[at], values, strict=True):
                assert not scores.readable[rows].any(), "a video was scored twice"
                scores.values[rows] = of_video
                scores.readable[rows] = True
        for (_, number), scores in results.items():
            paths = {item.path for item in lists[number].items}
            scores.causes |= {p: why for p, why in self.causes.items() if p in paths}
            scores.readers |= {p: how for p, how in self.readers.items() if p in paths}
