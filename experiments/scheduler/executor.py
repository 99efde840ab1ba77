"""Executors: where runs are computed, and for how many there is room."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from experiments.errors import BrokenGpu, OutOfMemory, is_permanent
from experiments.worker.job import Job
from tcclip.config import Execution


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


# ---- Room on several machines ----


class Node(NamedTuple):
    """What a machine of the cluster has for runs."""

    id: str
    cpus: float
    gpus: float


def room(nodes: Sequence[Node], resources: dict[str, float]) -> int:
    """Workers with these resources that fit; each is on one node, and on one GPU of it."""
    cpus, share = resources.get("CPU", 0), resources.get("GPU", 0)
    fit = 0
    for node in nodes:
        own = [int(node.cpus // cpus)] if cpus else []
        own += [int(node.gpus) * int(1 / share + 1e-9)] if share else []
        fit += min(own)
    return fit


def worker_resources(nodes: Sequence[Node], execution: Execution, *, gpu: bool) -> dict[str, float]:
    """What Ray reserves for a worker: its share of a GPU, a CPU for itself and for each loader.

    With "auto" loaders, all CPUs that are its share where it has a GPU. Fewer where `nodes` have
    too few for that: no GPU waits for CPUs, and a run of several workers on CPUs can start.
    """
    least: dict[str, float] = {"GPU": execution.gpus_per_worker} if gpu else {"CPU": 1}
    needed = room(nodes, least) if gpu else execution.workers
    if execution.loader_workers != "auto":
        most = 1 + execution.loader_workers
    else:  # on CPUs more runs side by side are worth more than loaders
        most = int(max(node.cpus for node in nodes)) if gpu and nodes else 1
    for cpus in range(most, 0, -1):
        resources = least | {"CPU": cpus}
        if room(nodes, resources) >= needed:
            return resources
    return least


def cpu_share(nodes: Sequence[Node], resources: dict[str, float], workers: int | None) -> int:
    """CPUs that a worker has to itself where each node is full of them, at least 1.

    `workers`: there will be no more than so many; None: no limit.
    """
    shares = []
    for node in nodes:
        if fit := room([node], resources):
            shares.append(int(node.cpus) // (fit if workers is None else min(fit, workers)))
    return max(1, min(shares, default=1))
