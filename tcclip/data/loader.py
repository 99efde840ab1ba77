"""Batches for training and evaluation, the same whatever the workers and ranks (SPEC 3).

Shapes: b videos, v views, T frames, S pixels a side. Videos are uint8, not yet normalised.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Sampler

from tcclip.data.clips import EvalClip, EvalClips, TrainClip, TrainClips, TrainKey
from tcclip.data.seeding import seeded_rng
from tcclip.data.transforms import Augmentation, TrainTransform

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


@dataclass
class _ChunkSampler(Sampler[list[TrainKey]]):
    """One rank's chunks of the epoch that is set, step by step.

    It must not hold its loader: in a reference cycle torch does not stop its workers when the
    loader is dropped, and waits five seconds for each.
    """

    videos: int
    seed: int
    global_batch: int
    chunk_size: int
    rank: int
    world: int
    epoch: int = 0
    start_step: int = 0

    def __iter__(self) -> Iterator[list[TrainKey]]:
        order = global_order(self.videos, self.seed, self.epoch)
        share = self.global_batch // self.world
        for step in range(self.start_step, self.videos // self.global_batch):
            first = step * self.global_batch + self.rank * share
            for chunk in range(first, first + share, self.chunk_size):
                positions = range(chunk, chunk + self.chunk_size)
                yield [TrainKey(self.epoch, at, order[at]) for at in positions]


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
        workers: int,
        rank: int = 0,
        world: int = 1,
        counts: Counter[str] | None = None,
    ) -> None:
        """`chunk_size`: see `Execution.chunk_size`. `workers`: decoding processes.

        `counts`: the batches' counts are added to it.
        """
        self.chunk_size = chunk_size
        self._counts = Counter[str]() if counts is None else counts
        self._warned: set[str] = set()
        self._steps = _ChunkSampler(len(clips), clips.seed, global_batch, chunk_size, rank, world)
        self._loader: DataLoader[Any] = DataLoader(
            clips,
            batch_sampler=self._steps,
            collate_fn=functools.partial(_collate_train, clips.transform),
            **_worker_options(workers),
            persistent_workers=workers > 0,
        )

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Chunks of each step of `epoch` from `start_step` on: G / (world * chunk_size) a step."""
        self._steps.epoch, self._steps.start_step = epoch, start_step
        for batch in self._loader:
            for path, cause in batch.replaced:
                # Once: it is requested in every epoch.
                if path not in self._warned:
                    log.warning("another training video takes the place of %s: %s", path, cause)
                self._warned.add(path)
            self._counts.update(batch.counts)
            yield batch


def _worker_options(workers: int) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "pin_memory": torch.cuda.is_available(),
        # Its own generator: otherwise each epoch would draw from torch's global one.
        "generator": torch.Generator(),
    }


def _collate_train(transform: TrainTransform, clips: Sequence[TrainClip]) -> Batch:
    videos, augmentation = [clip.video for clip in clips], None
    draws = [clip.draws for clip in clips if clip.draws is not None]
    if draws:
        video, augmentation = transform.collate(videos, draws)
    else:
        video = torch.stack(videos)
    return Batch(
        video,
        torch.tensor([clip.label for clip in clips]),
        torch.tensor([clip.position for clip in clips]),
        [clip.replaced for clip in clips if clip.replaced is not None],
        augmentation,
        _total(clip.counts for clip in clips),
    )


class EvalLoader:
    """Every video of a test list on exactly one rank, every `world`-th from `rank` on."""

    def __init__(
        self,
        clips: EvalClips,
        *,
        batch: int,
        workers: int,
        rank: int = 0,
        world: int = 1,
        counts: Counter[str] | None = None,
    ) -> None:
        """`batch` videos at once; `workers` decoding processes; `counts` as for training."""
        self._counts = Counter[str]() if counts is None else counts
        own = range(rank, len(clips), world)
        self._loader: DataLoader[Any] = DataLoader(
            clips,
            batch_sampler=[list(own[i : i + batch]) for i in range(0, len(own), batch)],
            collate_fn=_collate_eval,
            **_worker_options(workers),
        )

    def __iter__(self) -> Iterator[EvalBatch]:
        for batch in self._loader:
            self._counts.update(batch.counts)
            yield batch


def _collate_eval(clips: Sequence[EvalClip]) -> EvalBatch:
    read = [clip for clip in clips if clip.video is not None]
    videos = [clip.video for clip in read if clip.video is not None]
    return EvalBatch(
        torch.stack(videos) if videos else torch.empty(0, dtype=torch.uint8),
        torch.tensor([clip.label for clip in read], dtype=torch.int64),
        torch.tensor([clip.index for clip in read], dtype=torch.int64),
        {clip.index: str(clip.cause) for clip in clips if clip.video is None},
        {clip.index: clip.reader for clip in read if clip.reader is not None},
        _total(clip.counts for clip in clips),
    )


def _total(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())
