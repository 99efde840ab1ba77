"""When a device has not enough memory: smaller batches, the same numbers up to rounding."""

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
_SAID = re.compile(r"out of memory|not enough memory|can't allocate memory|ALLOC_FAILED", re.I)
#: For a run that does not even fit with the smallest batch.
ADVICE = (
    "nothing smaller is left; try --set execution.activation_checkpointing=true, "
    "--set train.precision=bf16, or GPUs with more memory"
)


class Reduction(FrozenModel):
    """A batch that was made smaller for the next attempt, and why."""

    setting: Setting
    before: int
    after: int
    cause: str


@contextmanager
def memory_for(setting: Setting, batch: int) -> Iterator[None]:
    """Running out of memory in here is OutOfMemory (or EvaluationOutOfMemory), naming the batch."""
    try:
        yield
    except OutOfMemory:
        raise  # from a phase within this one
    except RuntimeError as error:
        # Planning imports no torch, so its class is known by name.
        if type(error).__name__ != "OutOfMemoryError" and not _SAID.search(str(error)):
            raise
        kind, phase = _PHASES[setting]
        said = str(error).splitlines()[0]
        raise kind(f"not enough memory for {phase} of {batch}: {said}") from error


def reduction(spec: RunSpec, execution: Execution, error: str, cause: str) -> Reduction | None:
    """What to make smaller after `error` (a class name); None if nothing smaller is left."""
    if error == EvaluationOutOfMemory.__name__:
        after, before = _smaller_test(spec, execution), execution.eval_batch
        setting: Setting = "eval_batch"
    else:
        after, before = _smaller_train(spec, execution), execution.micro_batch
        setting = "micro_batch"
    if after is None:
        return None
    return Reduction(setting=setting, before=before, after=after, cause=cause)


def _smaller_train(spec: RunSpec, execution: Execution) -> int | None:
    """At most half the micro-batch, and one that makes the same global batch."""
    for size in range(execution.micro_batch // 2, 0, -1):
        try:
            execution.model_copy(update={"micro_batch": size}).chunk_size(spec.train)
        except ValueError:
            continue
        return size
    return None


def _smaller_test(spec: RunSpec, execution: Execution) -> int | None:
    """At most half the test batch, and one that puts fewer videos together in some suite."""
    views = {one.views.clips * one.views.crops for one in (*spec.suites, *spec.validation)}

    def videos(size: int) -> list[int]:
        return [math.ceil(size / count) for count in sorted(views)]

    size = execution.eval_batch // 2
    while size and videos(size) == videos(execution.eval_batch):
        size //= 2
    return size or None
