"""Batches that fit a device: the micro-batch "auto", and smaller ones for the next attempt.

The global batch stays, and so do the numbers, up to rounding.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments import machine
from experiments.errors import EvaluationOutOfMemory, LoaderOutOfMemory, OutOfMemory
from experiments.grid.spec import RunSpec
from experiments.store.files import write_text
from results.errors import StorageError
from tcclip.config import (
    LOADER_BYTES,
    LOADER_PIECES,
    MOST_LOADERS,
    Execution,
    FrozenModel,
    TrainConfig,
)
from tcclip.text_files import parse_json, read_text

log = logging.getLogger(__name__)

Setting = Literal["micro_batch", "eval_batch", "loader_workers"]
_PHASES: dict[Setting, tuple[type[OutOfMemory], str]] = {
    "micro_batch": (OutOfMemory, "training with a micro-batch"),
    "eval_batch": (EvaluationOutOfMemory, "testing with an eval-batch"),
}
#: What CUDA, cuBLAS and the CPU's allocator say; not every one has an exception of its own.
_MESSAGES = re.compile(r"out of memory|not enough memory|can't allocate memory|ALLOC_FAILED", re.I)
#: Of the free memory, so much is for loader processes.
LOADER_MEMORY = 0.5
#: For a run that does not fit even with the smallest batch.
ADVICE = (
    "the batch cannot be smaller; try --set execution.activation_checkpointing=true, "
    "--set train.precision=bf16, or GPUs with more memory"
)


class Reduction(FrozenModel):
    """A batch that was made smaller for the next attempt, and why."""

    setting: Setting
    before: int
    after: int
    cause: str


@contextmanager
def detect_out_of_memory(setting: Setting, batch: int) -> Iterator[None]:
    """Raise OutOfMemory, or EvaluationOutOfMemory, where the block runs out of memory."""
    try:
        yield
    except OutOfMemory:
        raise  # from a phase within this one
    except RuntimeError as error:
        # Planning imports no torch, so its class is known by name.
        if type(error).__name__ != "OutOfMemoryError" and not _MESSAGES.search(str(error)):
            raise
        kind, phase = _PHASES[setting]
        message = str(error).splitlines()[0]
        raise kind(f"not enough memory for {phase} of {batch}: {message}", batch) from error


def reduction(
    spec: RunSpec, execution: Execution, kind: type[BaseException], batch: int, cause: str
) -> Reduction | None:
    """Which batch to make smaller after an error of class `kind`; None if it cannot be smaller.

    `batch`: the one that was too large.
    """
    setting: Setting
    after: int | None
    if issubclass(kind, LoaderOutOfMemory):
        setting, after = "loader_workers", batch // 2
    elif issubclass(kind, EvaluationOutOfMemory):
        setting, after = "eval_batch", _smaller_eval_batch(spec, batch)
    else:
        setting, after = "micro_batch", smaller_micro_batch(execution, spec.train, batch)
    if after is None:
        return None
    return Reduction(setting=setting, before=batch, after=after, cause=cause)


def smaller_micro_batch(execution: Execution, train: TrainConfig, size: int) -> int | None:
    """The largest of at most half of `size` that makes the global batch."""
    return max(execution.micro_batches(train, size // 2), default=None)


def _smaller_eval_batch(spec: RunSpec, batch: int) -> int | None:
    """At most half the batch of views, and one that holds fewer videos in some suite."""
    views = {one.views.clips * one.views.crops for one in (*spec.suites, *spec.validation)}

    def videos(size: int) -> list[int]:
        return [math.ceil(size / count) for count in sorted(views)]

    size = batch // 2
    while size and videos(size) == videos(batch):
        size //= 2
    return size or None


def loader_processes(execution: Execution, cpus: int, batch_bytes: int) -> tuple[int, str]:
    """How many processes load videos for a worker, and why so many, in words.

    `cpus`: the worker's share of this machine's. `batch_bytes`: of the largest batch. As many as
    asked for, or as the share has beside the CPU that computes; fewer if memory is short.
    """
    asked = execution.loader_workers
    wanted = min(max(1, cpus - 1), MOST_LOADERS) if asked == "auto" else asked
    why = f"{cpus} CPUs are its share" if asked == "auto" else "as asked for"
    if (free := machine.free_memory()) is None:
        return wanted, why
    others = max(1, machine.cpu_count() // cpus)  # workers on this machine, this one included
    fit = int(LOADER_MEMORY * free / others) // (LOADER_BYTES + LOADER_PIECES * batch_bytes)
    if fit >= wanted:
        return wanted, why
    each = (LOADER_BYTES + LOADER_PIECES * batch_bytes) / 2**20
    return fit, (
        f"not {wanted}: each may take {each:.0f} MiB, and {free / 2**20:.0f} MiB of memory are "
        f"free for {others} workers; give them more memory, or a smaller --micro-batch"
    )


@dataclass(frozen=True)
class RememberedMicroBatch:
    """The largest micro-batch that fits, for one kind of GPU and training: a file in the cache.

    `kind`: all that decides how much memory there is and how much is needed, as JSON. A file that
    cannot be read or written costs measuring again, nothing else.
    """

    folder: Path
    kind: dict[str, Any]

    @property
    def file(self) -> Path:
        """One for each kind, so that workers of one machine do not write the same."""
        text = json.dumps(self.kind, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"

    def find(self, sizes: Sequence[int], measure: Callable[[], int]) -> int:
        """The remembered size, if it is among `sizes`; else what `measure` says, remembered."""
        size = self._read()
        if size is None or size not in sizes:
            size = measure()
            self._write(size)
        return size

    def lower(self, size: int | None) -> None:
        """Remember `size` instead of a larger one."""
        known = self._read()
        if known is not None and size is not None and size < known:
            self._write(size)

    def _read(self) -> int | None:
        try:
            return int(parse_json(read_text(self.file), self.file.name)["micro_batch"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s cannot be used (%r): it will be made anew", self.file, error)
            return None

    def _write(self, size: int) -> None:
        try:
            write_text(self.file, json.dumps({"micro_batch": size, **self.kind}, indent=1))
        except StorageError as error:
            log.warning("the micro-batch is not remembered: %s", error)
