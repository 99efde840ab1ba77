"""The collective operations of training and evaluation; a single process needs no group."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process's place among the workers of one run."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum of `value` over the ranks, on every rank."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank the first rank's `tensors`, in place."""
        for value in tensors if self.world > 1 else ():
            dist.broadcast(value, src=0)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value` (picklable), in rank order, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.world > 1:
            dist.barrier()


def use_deterministic_algorithms(on: bool) -> None:
    """Whether this process computes the same bits on a GPU each time; call before using it.

    An operation that cannot then raises RuntimeError: were it only warned of, attention's backward
    pass (flash and memory-efficient; torch leaves out cuDNN's) would not be deterministic either.
    """
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on)
    # New tensors would be filled, at a tenth of the time; none is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def current_ranks(device: str = "auto") -> Ranks:
    """The ranks of the process group if one was set up, else one process alone.

    `device`: "cpu", "cuda" (this process's current CUDA device) or "auto" (CUDA if there is any).
    ValueError for another one.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {device!r}; allowed: auto, cpu, cuda")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no CUDA device; use --device cpu")
    own_device = torch.device(device)
    if device == "cuda":
        own_device = torch.device("cuda", torch.cuda.current_device())
    if dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size(), own_device)
    return Ranks(0, 1, own_device)
