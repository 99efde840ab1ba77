"""The platform's own errors: UserError for what cannot be done as it was asked for, RunError for
one run that stopped while others go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from results.errors import StorageError as StorageError
from results.errors import UserError as UserError


class MissingData(UserError):
    """Annotation lists or videos a run needs are not there."""


class ListsChanged(UserError):
    """Lists or class names are not those that a run began with, or was planned with."""


class RunError(RuntimeError):
    """One run stopped; the others go on."""


class WorkerDied(RunError):
    """A worker ended without a result and without an error of its own."""


class RunPaused(RunError):
    """The run saved a checkpoint and ended, as it was asked to."""


class LeaseHeld(RunError):
    """A live process elsewhere works on this run."""


class LeaseLost(RunError):
    """Another process took this run over; this one must write nothing more."""


class CheckpointDamaged(RunError):
    """The checkpoint a run would go on from cannot be read: it never starts again by itself."""


class TooManyUnreadable(RunError):
    """More videos than allowed could not be read."""


class OutOfMemory(RunError):
    """Training needed more memory than a device has; a smaller micro-batch may do.

    `batch`: the one that was too large.
    """

    def __init__(self, message: str, batch: int = 0) -> None:
        super().__init__(message)  # alone: it is unpickled with what is given here
        self.batch = batch


class LoaderDied(RunError):
    """A process that loads videos ended, or could not hand over a batch."""


class LoaderOutOfMemory(OutOfMemory):
    """Loading videos needed more memory than there is; fewer loader processes may do.

    `batch`: how many there were.
    """


class EvaluationOutOfMemory(OutOfMemory):
    """Testing needed more memory than a device has; a smaller test batch may do."""


class BrokenGpu(RunError):
    """A GPU failed under a run, which another one may compute. `gpu`: which, and of what host.

    `place`: the ids of its node and of itself on a Ray cluster, where the run was on one.
    """

    def __init__(self, gpu: str, cause: str) -> None:
        super().__init__(gpu, cause)
        self.gpu, self.cause = gpu, cause
        self.place: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.cause} (on {self.gpu})"


class StoppedEarly(RunError):
    """A search found the run not worth finishing: no failure, and no result."""


#: Mistakes in settings, data or code. A computation that diverges does so again, too.
_PERMANENT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    CheckpointDamaged,
    TooManyUnreadable,
)


def is_permanent(error: BaseException) -> bool:
    """Whether the same error would end another attempt, so that none is made.

    Everything unknown may be a lost worker, node or connection: worth another attempt.
    """
    return isinstance(error, _PERMANENT) and not isinstance(error, StorageError)


#: What CUDA, its driver and NCCL say when a GPU may be at fault. Not a device-side assertion, which
#: is a mistake in data or code.
_BROKEN_GPU = re.compile(
    r"illegal memory access|unspecified launch failure|CUDA error: unknown error|uncorrectable"
    r"|\bECC\b|hardware (stack )?error|GPU is lost|fallen off the bus|\bXid\b",
    re.IGNORECASE,
)


@contextmanager
def gpu_errors(gpu: str | None) -> Iterator[None]:
    """What a broken GPU makes of a run as BrokenGpu. `gpu`: the name of its GPU, None on a CPU."""
    try:
        yield
    except RunError:
        raise
    except RuntimeError as error:
        if gpu is None or not _BROKEN_GPU.search(str(error)):
            raise
        raise BrokenGpu(gpu, str(error).splitlines()[0]) from error


@contextmanager
def user_errors() -> Iterator[None]:
    """What other rooms raise for a user's mistakes as UserError: a ValueError, a file that is not
    there or not to be written."""
    try:
        yield
    except BrokenPipeError:  # who read the output has seen enough
        raise
    except OSError as error:
        known = error.filename is not None and error.strerror
        raise UserError(f"{error.filename}: {error.strerror}" if known else str(error)) from error
    except ValueError as error:
        raise UserError(str(error)) from error
