"""The videos of a list as torch data sets: training clips, and all views of a test video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from tcclip.config import AugmentConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.sampling import Indices, train_indices, view_indices
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import Draws, EvalTransform, TrainTransform

#: From a list's path to the file, such as `folder.joinpath`.
Locate = Callable[[str], Path]
#: How many other videos are tried in place of an unreadable one.
MAX_REPLACEMENTS = 20


def unique_names(items: Sequence[Item]) -> list[str]:
    """A name for each item to seed its random draws: its path, with a count if listed before."""
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
    """video (T, 3, S, S) uint8; if there are `draws`, a crop (T, 3, h, w) that is still to become
    that. `replaced`: path and cause of the unreadable one it stands for.
    """

    video: torch.Tensor
    label: int
    position: int
    replaced: tuple[str, str] | None
    draws: Draws | None = None


@dataclass
class TrainClips(Dataset[TrainClip]):
    """Augmented clips of a training list. `timeout`: seconds a reader may take.

    `augment_later`: they are only cropped, and augmented in batches where the model is.
    """

    items: Sequence[Item]
    locate: Locate
    _: KW_ONLY
    num_frames: int
    augment: AugmentConfig
    seed: int
    timeout: float = 60.0
    augment_later: bool = False

    def __post_init__(self) -> None:
        self.names = unique_names(self.items)
        self.transform = TrainTransform(self.augment)
        self.decoder = Decoder(self.augment.reader, self.timeout)

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
                video, draws = self._clip(index, key.epoch)
            except UnreadableVideo as error:
                replaced = replaced or (self.items[key.index].path, error.cause)
                index = int(others.integers(len(self.items)))
                last = error
            else:
                label = self.items[index].label
                return TrainClip(video, label, key.position, replaced, draws)
        raise UnreadableVideo(
            last.path, f"{last.cause}; {MAX_REPLACEMENTS} videos in a row could not be read"
        )

    def _clip(self, index: int, epoch: int) -> tuple[torch.Tensor, Draws | None]:
        name = self.names[index]
        clip = self.decoder.read(
            self.locate(self.items[index].path),
            lambda total: train_indices(
                total, self.num_frames, seeded_rng("frames", self.seed, epoch, name)
            ),
        )
        rng = seeded_rng("pixels", self.seed, epoch, name)
        if self.augment_later:
            return self.transform.cut(clip.frames, rng)
        return self.transform(clip.frames, rng), None


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


@dataclass
class EvalClips(Dataset[EvalClip]):
    """All views of each video of a test list. `seed` draws the temporal views if they are drawn."""

    items: Sequence[Item]
    locate: Locate
    _: KW_ONLY
    num_frames: int
    augment: AugmentConfig
    views: Views
    seed: int
    timeout: float = 60.0

    def __post_init__(self) -> None:
        self.names = unique_names(self.items)
        self.transform = EvalTransform(self.augment, self.views.crops)
        self.decoder = Decoder(self.augment.reader, self.timeout)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> EvalClip:
        """Video `index` of the list; an unreadable one carries its cause instead of raising."""
        item = self.items[index]

        def choose(total: int) -> Indices:
            name = self.names[index]
            return view_indices(total, self.num_frames, self.views, self.seed, name).flatten()

        try:
            clip = self.decoder.read(self.locate(item.path), choose)
        except UnreadableVideo as error:
            return EvalClip(index, item.label, None, error.cause)
        frames = clip.frames.reshape(self.views.clips, self.num_frames, *clip.frames.shape[1:])
        video = torch.cat([self.transform(one) for one in frames])
        return EvalClip(index, item.label, video, None, clip.reader)
