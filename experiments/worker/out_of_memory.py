"""Out of memory: smaller batches for the next attempt, the same numbers up to rounding."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from experiments.errors import EvaluationOutOfMemory, OutOfMemory
from experiments.grid.spec import RunSpec
from tcclip.config import Execution, FrozenModel

Setting = Literal["micro_batch", "eval_batch"]
_PHASES: dict[Setting, tuple[type[OutOfMemory], str]] = {
    "micro_batch": (OutOfMemory, "training with a micro-batch"),
    "eval_batch": (EvaluationOutOfMemory, "testing with an eval-batch"),
}
#: What CUDA, cuBLAS and the CPU's allocator say; not every one has an exception of its own.
_MESSAGES = re.compile(r"out of memory|not enough memory|can't allocate memory|ALLOC_FAILED", re.I)
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
        raise kind(f"not enough memory for {phase} of {batch}: {message}") from error


def reduction(
    spec: RunSpec, execution: Execution, kind: type[BaseException], cause: str
) -> Reduction | None:
    """Which batch to make smaller after an error of class `kind`; None if it cannot be smaller."""
    setting: Setting
    if issubclass(kind, EvaluationOutOfMemory):
        setting, before = "eval_batch", execution.eval_batch
        after = _smaller_eval_batch(spec, execution)
    else:
        setting, before = "micro_batch", execution.micro_batch
        after = _smaller_micro_batch(spec, execution)
    if after is None:
        return None
    return Reduction(setting=setting, before=before, after=after, cause=cause)


def _smaller_micro_batch(spec: RunSpec, execution: Execution) -> int | None:
    """At most half the micro-batch, and one that divides the global batch as before."""
    for size in range(execution.micro_batch // 2, 0, -1):
        try:
            execution.model_copy(update={"micro_batch": size}).chunk_size(spec.train)
        except ValueError:
            continue
        return size
    return None


def _smaller_eval_batch(spec: RunSpec, execution: Execution) -> int | None:
    """At most half the batch of views, and one that holds fewer videos in some suite."""
    views = {one.views.clips * one.views.crops for one in (*spec.suites, *spec.validation)}

    def videos(size: int) -> list[int]:
        return [math.ceil(size / count) for count in sorted(views)]

    size = execution.eval_batch // 2
    while size and videos(size) == videos(execution.eval_batch):
        size //= 2
    return size or None
