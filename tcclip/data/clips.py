"""The videos of a list as torch data sets: training clips, and all views of a test video.

Every random draw is a function of (seed, epoch, video), where the video is named by its path in
the list, with a count if the path is listed again. Nothing depends on workers or ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from tcclip.config import AugmentConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.sampling import train_indices, view_indices
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import EvalTransform, TrainTransform

#: From a list's path to the file, such as `folder.joinpath`.
Locate = Callable[[str], Path]
#: How many other videos are tried in place of an unreadable one.
MAX_REPLACEMENTS = 20


def unique_names(items: Sequence[Item]) -> list[str]:
    """A name for each item: its path, with a count where the path was listed before."""
    counts: Counter[str] = Counter()
    names = []
    for item in items:
        number = counts[item.path]
        names.append(f"{item.path}#{number}" if number else item.path)
        counts[item.path] += 1
    return names


@dataclass(frozen=True)
class TrainKey:
    """What a loader requests: item `index`, at `position` of epoch `epoch`'s global order."""

    epoch: int
    position: int
    index: int


@dataclass(frozen=True)
class TrainClip:
    """video (T, 3, S, S) uint8. `replaced`: path and cause of the unreadable one it stands for."""

    video: torch.Tensor
    label: int
    position: int
    replaced: tuple[str, str] | None


class TrainClips(Dataset[TrainClip]):
    """Augmented clips of a training list, one for each video and epoch."""

    def __init__(
        self,
        items: Sequence[Item],
        locate: Locate,
        *,
        num_frames: int,
        augment: AugmentConfig,
        flip: bool,
        seed: int,
        timeout: float = 60.0,
    ) -> None:
        """`flip`: whether a mirrored clip keeps its class. `timeout`: seconds a reader may take."""
        self.items = tuple(items)
        self.names = unique_names(items)
        self.locate, self.num_frames, self.seed = locate, num_frames, seed
        self.transform = TrainTransform(augment, flip)
        self.decoder = Decoder(augment.reader, timeout)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: TrainKey) -> TrainClip:
        """The clip of `key`. An unreadable video is replaced by others of the list, drawn from
        (seed, epoch, video); raises UnreadableVideo if these cannot be read either.
        """
        index, replaced = key.index, None
        others = seeded_rng("replacement", self.seed, key.epoch, self.names[key.index])
        for _ in range(MAX_REPLACEMENTS):
            try:
                video = self._clip(index, key.epoch)
            except UnreadableVideo as error:
                replaced = replaced or (self.items[key.index].path, error.cause)
                index = int(others.integers(len(self.items)))
                last = error
            else:
                return TrainClip(video, self.items[index].label, key.position, replaced)
        raise UnreadableVideo(
            last.path, f"{last.cause}; {MAX_REPLACEMENTS} videos in a row could not be read"
        )

    def _clip(self, index: int, epoch: int) -> torch.Tensor:
        name = self.names[index]

        def choose(total: int) -> list[int]:
            rng = seeded_rng("frames", self.seed, epoch, name)
            return [int(index) for index in train_indices(total, self.num_frames, rng)]

        clip = self.decoder.read(self.locate(self.items[index].path), choose)
        return self.transform(clip.frames, seeded_rng("pixels", self.seed, epoch, name))


@dataclass(frozen=True)
class EvalClip:
    """video (views, T, 3, S, S) uint8, temporal views outermost; None and a cause if unreadable.

    `reader`: the method that read it.
    """

    index: int
    label: int
    video: torch.Tensor | None
    cause: str | None
    reader: str | None = None


class EvalClips(Dataset[EvalClip]):
    """All views of each video of a test list."""

    def __init__(
        self,
        items: Sequence[Item],
        locate: Locate,
        *,
        num_frames: int,
        augment: AugmentConfig,
        views: Views,
        seed: int,
        timeout: float = 60.0,
    ) -> None:
        """`seed` draws the temporal views if `views` are drawn (SPEC 3)."""
        self.items = tuple(items)
        self.names = unique_names(items)
        self.locate, self.num_frames = locate, num_frames
        self.views, self.seed = views, seed
        self.transform = EvalTransform(augment, views.crops)
        self.decoder = Decoder(augment.reader, timeout)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> EvalClip:
        """Video `index` of the list; an unreadable one carries its cause instead of raising."""
        item = self.items[index]
        try:
            clip = self.decoder.read(
                self.locate(item.path), lambda total: self._indices(total, index)
            )
        except UnreadableVideo as error:
            return EvalClip(index, item.label, None, error.cause)
        frames = clip.frames.reshape(self.views.clips, self.num_frames, *clip.frames.shape[1:])
        video = torch.cat([self.transform(one) for one in frames])
        return EvalClip(index, item.label, video, None, clip.reader)

    def _indices(self, total: int, index: int) -> list[int]:
        views = view_indices(total, self.num_frames, self.views, self.seed, self.names[index])
        return [int(index) for index in views.flatten()]
