"""The videos of a list as torch data sets: training clips, and all views of a test video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import Dataset

from tcclip.config import AugmentConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.cache.entry import Frames
from tcclip.data.cache.frames import Cached, Prepared
from tcclip.data.cache.store import TRAINING_SHARE, Store
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.pyav_reader import ChooseFrames
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.sampling import Indices, train_indices, view_indices
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import Draws, EvalTransform, TrainTransform, resize_short_side, to_video

#: From a list's path to the file, such as `folder.joinpath`.
Locate = Callable[[str], Path]
#: How many other videos are tried in place of an unreadable one.
MAX_REPLACEMENTS = 20
#: What is counted: clips and views by where their frames came from.
TRAIN_DECODED, TRAIN_CACHED = "train_clips_decoded", "train_clips_cached"
TEST_DECODED, TEST_CACHED = "test_views_decoded", "test_views_cached"


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
    """video (T, 3, S, S) uint8, its colours still to be changed as `draws` say; with
    `augment_later` a crop (T, 3, h, w) that is still to become that. `replaced`: path and cause of
    the unreadable one it stands for. `counts`: see `TRAIN_DECODED`, and what the cache counts.
    """

    video: torch.Tensor
    draws: Draws
    label: int
    position: int
    replaced: tuple[str, str] | None
    counts: Counter[str]


@dataclass
class TrainClips(Dataset[TrainClip]):
    """Clips of a training list, augmented but for their colours, which batches change.

    `augment_later`: they are only cropped, and augmented where the model is.
    `store`: keeps all frames of each video, if so many videos of its size have room in it.
    """

    items: Sequence[Item]
    locate: Locate
    _: KW_ONLY
    num_frames: int
    augment: AugmentConfig
    seed: int
    decoder: Decoder
    augment_later: bool = False
    store: Store | None = None

    def __post_init__(self) -> None:
        self.names = unique_names(self.items)
        self.transform = TrainTransform(self.augment)
        short, budget = self.augment.resize, training_budget(self.store, len(self.items))
        self._frames = Cached(
            self.decoder, partial(_resized, short), f"short side {short}", "train",
            # No video is smaller than this: of a large list none is looked up in vain.
            self.store if budget >= 3 * short**2 * self.num_frames else None,
            # `TrainTransform` resizes no more than the crop.
            whole=budget, prepare_unkept=False,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: TrainKey) -> TrainClip:
        """The clip of `key`. An unreadable video is replaced by others of the list, drawn from
        (seed, epoch, video); raises UnreadableVideo if these cannot be read either.
        """
        index, replaced, others = key.index, None, None
        for _ in range(MAX_REPLACEMENTS):
            try:
                video, draws, counts = self._clip(index, key.epoch)
            except UnreadableVideo as error:
                replaced = replaced or (self.items[key.index].path, error.cause)
                name = self.names[key.index]
                others = others or seeded_rng("replacement", self.seed, key.epoch, name)
                index = int(others.integers(len(self.items)))
                last = error
            else:
                label = self.items[index].label
                return TrainClip(video, draws, label, key.position, replaced, counts)
        raise UnreadableVideo(
            last.path, f"{last.cause}; {MAX_REPLACEMENTS} videos in a row could not be read"
        )

    def _clip(self, index: int, epoch: int) -> tuple[torch.Tensor, Draws, Counter[str]]:
        name = self.names[index]
        clip = self._frames.read(
            self.locate(self.items[index].path),
            lambda total: train_indices(
                total, self.num_frames, seeded_rng("frames", self.seed, epoch, name)
            ),
        )
        counts = clip.notes + Counter({TRAIN_DECODED if clip.decoded.any() else TRAIN_CACHED: 1})
        rng = seeded_rng("pixels", self.seed, epoch, name)
        made = self.transform.cut if self.augment_later else self.transform.shape
        return *made(clip.frames, rng), counts


def _resized(short: int, frames: Frames) -> Frames:
    """(n, H, W, 3) -> (n, h, w, 3), as `TrainTransform` resizes them first."""
    video = resize_short_side(to_video(frames), short)
    resized: Frames = video.permute(0, 2, 3, 1).contiguous().numpy()
    return resized


def _cropped(transform: EvalTransform, frames: Frames) -> Frames:
    """(n, H, W, 3) -> (n, crops, 3, S, S)."""
    cropped: Frames = transform(frames).transpose(0, 1).contiguous().numpy()
    return cropped


def training_budget(store: Store | None, videos: int) -> int:
    """Bytes of the cache for each of a training list's `videos`."""
    return 0 if store is None else int(TRAINING_SHARE * store.limit / max(1, videos))


@dataclass(frozen=True)
class EvalClip:
    """video (views, T, 3, S, S) uint8, temporal views outermost; None and a cause if unreadable.

    `reader`: the method that read it. `counts`: see `TEST_DECODED`, and what the cache counts.
    """

    index: int
    label: int
    video: torch.Tensor | None
    cause: str | None
    reader: str | None = None
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class EvalClips(Dataset[EvalClip]):
    """All views of each video of a test list. `seed` draws the temporal views if they are drawn.

    `store`: keeps the frames of the views, from which any other view's are taken too.
    """

    items: Sequence[Item]
    locate: Locate
    _: KW_ONLY
    num_frames: int
    augment: AugmentConfig
    views: Views
    seed: int
    decoder: Decoder
    store: Store | None = None

    def __post_init__(self) -> None:
        self.names = unique_names(self.items)
        made = f"{self.augment.resize} {self.augment.crop} crops {self.views.crops}"
        prepare = partial(_cropped, EvalTransform(self.augment, self.views.crops))
        self._frames = Cached(self.decoder, prepare, made, "test", self.store)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> EvalClip:
        """Video `index` of the list; an unreadable one carries its cause instead of raising."""
        item, name = self.items[index], self.names[index]
        try:
            video, clip = self.read(
                self.locate(item.path), lambda total: self.indices(total, name).flatten()
            )
        except UnreadableVideo as error:
            return EvalClip(index, item.label, None, error.cause)
        return EvalClip(index, item.label, video, None, clip.reader, self._counts(clip))

    def indices(self, total: int, name: str) -> Indices:
        """(clips, T) frames of the temporal views of a video of `total` frames."""
        return view_indices(total, self.num_frames, self.views, self.seed, name)

    def read(self, path: Path, choose: ChooseFrames) -> tuple[torch.Tensor, Prepared]:
        """The clips of a file, whose frames `choose` picks from its number of frames, clip after
        clip: (clips * crops, T, 3, S, S) uint8. Raises UnreadableVideo."""
        found = self._frames.read(path, choose)
        # (clips * T, crops, 3, S, S)
        frames = torch.from_numpy(found.frames).unflatten(0, (-1, self.num_frames))
        return frames.transpose(1, 2).flatten(0, 1), found

    def _counts(self, clip: Prepared) -> Counter[str]:
        """A temporal view of which one frame was decoded was decoded, with all its crops."""
        decoded = clip.decoded.reshape(self.views.clips, self.num_frames).any(1)
        counts = {TEST_DECODED: int(decoded.sum()), TEST_CACHED: int((~decoded).sum())}
        return clip.notes + Counter({key: n * self.views.crops for key, n in counts.items()})
