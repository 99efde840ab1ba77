"""Executors: where runs are computed. Every executor leaves the same files."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Protocol

from experiments.errors import BrokenGpu, OutOfMemory, is_permanent
from experiments.worker.job import Job


@dataclass(frozen=True)
class AttemptError:
    """Why an attempt at a run ended without a result.

    `kind`: the exception's class; `message` begins with its name. The exception itself is not
    kept: its frames would keep the run's tensors in memory. `permanent`: another attempt would end
    the same way. `batch`: the one that was too large, of OutOfMemory. `gpu`: the one that failed,
    of BrokenGpu.
    """

    kind: type[BaseException]
    message: str
    traceback: str = ""
    permanent: bool = False
    batch: int = 0
    gpu: str | None = None

    @classmethod
    def of(cls, error: BaseException, trace: str | None = None) -> AttemptError:
        """From an exception; `trace` replaces a traceback that was lost between processes."""
        kind = type(error)
        trace = trace or "".join(traceback.format_exception(error))
        batch = error.batch if isinstance(error, OutOfMemory) else 0
        gpu = error.gpu if isinstance(error, BrokenGpu) else None
        return cls(kind, f"{kind.__name__}: {error}", trace, is_permanent(error), batch, gpu)


class Executor(Protocol):
    """Computes runs. What came of a run is in its folder."""

    @property
    def slots(self) -> int:
        """How many runs can be computed at once; changes as machines come and go."""

    def start(self, job: Job) -> None:
        """Begin to compute `job`; returns at once."""

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        """Runs that ended since the last call, each with its error; waits at most `timeout` s."""

    def close(self) -> None:
        """End what still runs, and release the executor's resources."""


class LocalExecutor:
    """One run after the other in this process, computed in `ended`: for debugging and tests."""

    slots = 1

    def __init__(self) -> None:
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        self._job = job

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        if self._job is None:
            time.sleep(timeout)
            return {}
        from experiments.machine import cpu_count
        from experiments.worker.run import execute

        job, self._job = self._job, None
        failed: AttemptError | None = None
        try:
            execute(job, cpu_count())
        except Exception as error:  # noqa: BLE001
            # A run may fail in any way; the others go on.
            failed = AttemptError.of(error)
        forget_run()
        return {job.spec.run_id: failed}

    def close(self) -> None:
        return


def forget_run() -> None:
    """Give back what a run left in this process, which computes another: GPU memory, and compiled
    code, of which torch keeps a limited number."""
    import torch

    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
