"""Batches for training and evaluation, the same whatever the workers and ranks (SPEC 3).

Shapes: b videos, v views, T frames, S pixels a side. Videos are uint8, not yet normalised.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from tcclip.data.clips import EvalClips, TrainClips, TrainKey
from tcclip.data.loader_pool import LoaderPool
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import Augmentation

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Training clips: video (b, T, 3, S, S) uint8, labels (b,), indices (b,) in the global order.

    `replaced`: (path, cause) of each unreadable video that another one takes the place of.
    `augmentation`: what makes that `video` of its crops, if it is still to be made.
    `counts`: the sum of the clips'.
    """

    video: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    replaced: list[tuple[str, str]]
    augmentation: Augmentation | None = None
    counts: Mapping[str, int] = {}


class EvalBatch(NamedTuple):
    """Test videos: video (b, v, T, 3, S, S) uint8, labels (b,), indices (b,) in the list.

    `unreadable`: index -> cause, of videos that are in none of the tensors. If b is 0, `video` has
    shape (0,). `readers`: index -> the method that read it. `counts`: the sum of the clips'.
    """

    video: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    unreadable: dict[int, str]
    readers: dict[int, str]
    counts: Mapping[str, int] = {}


def global_order(videos: int, seed: int, epoch: int) -> list[int]:
    """The epoch's permutation of range(videos): a function of (seed, epoch)."""
    order: list[int] = seeded_rng("order", seed, epoch).permutation(videos).tolist()
    return order


@dataclass(frozen=True)
class _Steps:
    """One rank's chunks. Running processes hold what gives their keys: it must not hold them."""

    videos: int
    seed: int
    global_batch: int
    chunk_size: int
    rank: int
    world: int

    def keys(self, epoch: int, start_step: int) -> Iterator[list[TrainKey]]:
        """The chunks of `epoch`, step by step."""
        order = global_order(self.videos, self.seed, epoch)
        share = self.global_batch // self.world
        for step in range(start_step, self.videos // self.global_batch):
            first = step * self.global_batch + self.rank * share
            for chunk in range(first, first + share, self.chunk_size):
                positions = range(chunk, chunk + self.chunk_size)
                yield [TrainKey(epoch, at, order[at]) for at in positions]


class TrainLoader:
    """This rank's part of every global batch.

    Step s takes positions s*G to (s+1)*G of the epoch's order; the last incomplete batch is
    dropped. A rank takes neighbouring whole mixing groups, so the ranks' chunks in rank order are
    the order of a single rank.
    """

    def __init__(
        self,
        clips: TrainClips,
        *,
        global_batch: int,
        chunk_size: int,
        pool: LoaderPool,
        rank: int = 0,
        world: int = 1,
        counts: Counter[str] | None = None,
    ) -> None:
        """`chunk_size`: see `Execution.chunk_size`. `pool`: the processes that load.

        `counts`: the batches' counts are added to it.
        """
        self.chunk_size, self.pool = chunk_size, pool
        self._counts = Counter[str]() if counts is None else counts
        self._warned: set[str] = set()
        self._steps = _Steps(len(clips), clips.seed, global_batch, chunk_size, rank, world)
        self._source = pool.add(partial(load_train, clips))

    @property
    def waited(self) -> float:
        """Seconds that were spent waiting for batches, tests' included."""
        return self.pool.waited

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Chunks of each step of `epoch` from `start_step` on: G / (world * chunk_size) a step."""
        for batch in self.pool.batches(self._source, self._steps.keys(epoch, start_step)):
            for path, cause in batch.replaced:
                # Once: it is requested in every epoch.
                if path not in self._warned:
                    log.warning("another training video takes the place of %s: %s", path, cause)
                self._warned.add(path)
            self._counts.update(batch.counts)
            yield batch


def load_train(clips: TrainClips, keys: Sequence[TrainKey]) -> Batch:
    """The batch of `keys`."""
    read = [clips[key] for key in keys]
    videos, draws, augmentation = [clip.video for clip in read], [clip.draws for clip in read], None
    if clips.augment_later:
        video, augmentation = clips.transform.collate(videos, draws)
    else:
        video = torch.stack(videos)
        clips.transform.recolour(video, draws)
    return Batch(
        video,
        torch.tensor([clip.label for clip in read]),
        torch.tensor([clip.position for clip in read]),
        [clip.replaced for clip in read if clip.replaced is not None],
        augmentation,
        _total(clip.counts for clip in read),
    )


class EvalLoader:
    """Every video of a test list on exactly one rank, every `world`-th from `rank` on."""

    def __init__(
        self,
        clips: EvalClips,
        *,
        batch: int,
        pool: LoaderPool,
        rank: int = 0,
        world: int = 1,
        counts: Counter[str] | None = None,
    ) -> None:
        """`batch` videos at once; `pool`: the processes that load; `counts` as for training."""
        self._counts = Counter[str]() if counts is None else counts
        own = range(rank, len(clips), world)
        self._keys = [own[i : i + batch] for i in range(0, len(own), batch)]
        self._pool, self._source = pool, pool.add(partial(_load_eval, clips))

    def __iter__(self) -> Iterator[EvalBatch]:
        for batch in self._pool.batches(self._source, self._keys):
            self._counts.update(batch.counts)
            yield batch


def _load_eval(clips: EvalClips, keys: Sequence[int]) -> EvalBatch:
    all_clips = [clips[key] for key in keys]
    read = [clip for clip in all_clips if clip.video is not None]
    videos = [clip.video for clip in read if clip.video is not None]
    return EvalBatch(
        torch.stack(videos) if videos else torch.empty(0, dtype=torch.uint8),
        torch.tensor([clip.label for clip in read], dtype=torch.int64),
        torch.tensor([clip.index for clip in read], dtype=torch.int64),
        {clip.index: str(clip.cause) for clip in all_clips if clip.video is None},
        {clip.index: clip.reader for clip in read if clip.reader is not None},
        _total(clip.counts for clip in all_clips),
    )


def _total(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())
