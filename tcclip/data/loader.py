"""Batches for training and evaluation, the same whatever the workers and ranks (SPEC 3).

Shapes: b videos, v views, T frames, S pixels a side. Videos are uint8, not yet normalised.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from tcclip.data.clips import EvalClip, EvalClips, TrainClip, TrainClips, TrainKey
from tcclip.data.draws import draws

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Training clips: video (b, T, 3, S, S) uint8, labels (b,), indices (b,) in the global order.

    `replaced`: how many are another video in place of an unreadable one; `causes`: path -> why.
    """

    video: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    replaced: int
    causes: dict[str, str] = field(default_factory=dict)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory (called by torch's DataLoader)."""
        return Batch(self.video.pin_memory(), self.labels, self.indices, self.replaced, self.causes)


@dataclass(frozen=True)
class EvalBatch:
    """Test videos: video (b, v, T, 3, S, S) uint8, labels (b,), indices (b,) in the list.

    `unreadable`: index -> cause, of videos that are in none of the tensors. b may be 0.
    `readers`: index -> the way a video was read.
    """

    video: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    unreadable: dict[int, str] = field(default_factory=dict)
    readers: dict[int, str] = field(default_factory=dict)

    def pin_memory(self) -> EvalBatch:
        """The same in page-locked memory (called by torch's DataLoader)."""
        return replace(self, video=self.video.pin_memory())


def global_order(videos: int, seed: int, epoch: int) -> list[int]:
    """The epoch's permutation of range(videos): a function of (seed, epoch)."""
    order: list[int] = draws("order", seed, epoch).permutation(videos).tolist()
    return order


class _Steps(Sampler[list[TrainKey]]):
    """One rank's chunks of the epoch that is set, step by step.

    It must not know its loader: in a cycle, torch's workers are not told that they are let go,
    and each is waited for in vain for five seconds.
    """

    def __init__(
        self, videos: int, seed: int, global_batch: int, load_batch: int, rank: int, world: int
    ) -> None:
        self.epoch, self.start = 0, 0
        self.steps = videos // global_batch
        self._videos, self._seed = videos, seed
        self._global_batch, self._load_batch = global_batch, load_batch
        self._share = global_batch // world
        self._offset = rank * self._share

    def __iter__(self) -> Iterator[list[TrainKey]]:
        order = global_order(self._videos, self._seed, self.epoch)
        for step in range(self.start, self.steps):
            first = step * self._global_batch + self._offset
            for chunk in range(first, first + self._share, self._load_batch):
                positions = range(chunk, chunk + self._load_batch)
                yield [TrainKey(self.epoch, place, order[place]) for place in positions]


class TrainLoader:
    """This rank's part of every global batch.

    Step s takes positions s*G to (s+1)*G of the epoch's order; the last incomplete batch is
    dropped. A rank takes a run of whole mixing groups, so the ranks' chunks put together in rank
    order are the one-rank order.
    """

    def __init__(
        self,
        clips: TrainClips,
        *,
        global_batch: int,
        group: int,
        load_batch: int,
        workers: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """`load_batch` videos a chunk, whole groups of `group`; `workers` decoding processes.

        Raises ValueError if the global batch cannot be made of such chunks.
        """
        if load_batch % group or global_batch % (world * load_batch):
            raise ValueError(
                f"a global batch of {global_batch} is not made of chunks of {load_batch} videos "
                f"on {world} ranks in groups of {group}: {load_batch} must be a multiple of "
                f"{group}, and {global_batch} of {world} x {load_batch}"
            )
        self.load_batch = load_batch
        self._named: set[str] = set()
        self._steps = _Steps(len(clips), seed, global_batch, load_batch, rank, world)
        self._loader: DataLoader[Any] = DataLoader(
            clips,
            batch_sampler=self._steps,
            collate_fn=_collate_train,
            **_worker_options(workers),
            persistent_workers=workers > 0,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return self._steps.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Chunks of each step of `epoch` from `start_step` on: G / (world * load_batch) a step."""
        self._steps.epoch, self._steps.start = epoch, start_step
        for batch in self._loader:
            self._name_replaced(batch)
            yield batch

    def _name_replaced(self, batch: Batch) -> None:
        """Each unreadable video once: it is drawn in every epoch."""
        for path, cause in batch.causes.items():
            if path not in self._named:
                log.warning("another training video stands in for %s: %s", path, cause)
            self._named.add(path)


def _worker_options(workers: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_workers": workers,
        "pin_memory": torch.cuda.is_available(),
        # Of its own, or each epoch would move the model's stream of random numbers.
        "generator": torch.Generator(),
    }
    if workers:
        options |= {"prefetch_factor": 2}
    return options


def _collate_train(clips: Sequence[TrainClip]) -> Batch:
    causes = {clip.path: clip.replaced for clip in clips if clip.replaced is not None}
    return Batch(
        torch.stack([clip.video for clip in clips]),
        torch.tensor([clip.label for clip in clips]),
        torch.tensor([clip.position for clip in clips]),
        sum(clip.replaced is not None for clip in clips),
        causes,
    )


class EvalLoader:
    """Every video of a test list on exactly one rank, every `world`-th from `rank` on."""

    def __init__(
        self, clips: EvalClips, *, batch: int, workers: int, rank: int = 0, world: int = 1
    ) -> None:
        """`batch` videos at once; `workers` decoding processes."""
        mine = range(rank, len(clips), world)
        self._chunks = [list(mine[i : i + batch]) for i in range(0, len(mine), batch)]
        self._loader: DataLoader[Any] = DataLoader(
            clips,
            batch_sampler=self._chunks,
            collate_fn=_CollateEval(clips.shape),
            **_worker_options(workers),
        )

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[EvalBatch]:
        yield from self._loader


@dataclass(frozen=True)
class _CollateEval:
    """Puts readable videos together; `shape` (v, T, 3, S, S) is that of one."""

    shape: tuple[int, ...]

    def __call__(self, clips: Sequence[EvalClip]) -> EvalBatch:
        read = [clip for clip in clips if clip.video is not None]
        videos = [clip.video for clip in read if clip.video is not None]
        empty = torch.empty(0, *self.shape, dtype=torch.uint8)
        return EvalBatch(
            torch.stack(videos) if videos else empty,
            torch.tensor([clip.label for clip in read], dtype=torch.int64),
            torch.tensor([clip.index for clip in read], dtype=torch.int64),
            {clip.index: str(clip.cause) for clip in clips if clip.video is None},
            {clip.index: clip.reader for clip in read if clip.reader is not None},
        )
