"""Executors: where runs are computed. Every executor leaves the same files."""

from __future__ import annotations

import gc
import os
import socket
import sys
import tempfile
import time
import traceback
import urllib.parse
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.errors import UserError, is_permanent
from experiments.worker.job import Job


@dataclass(frozen=True)
class AttemptError:
    """Why an attempt at a run ended without a result.

    `error`: the exception's class name; `message` begins with it. `repeats`: another attempt
    would end the same way.
    """

    error: str
    message: str
    traceback: str
    repeats: bool = False

    @classmethod
    def of(cls, error: BaseException, trace: str | None = None) -> AttemptError:
        """From an exception; `trace` where its own traceback got lost on the way."""
        name = type(error).__name__
        trace = trace or "".join(traceback.format_exception(error))
        return cls(name, f"{name}: {error}", trace, is_permanent(error))


class Executor(Protocol):
    """Computes runs; the run folders say what came of them."""

    name: str

    @property
    def slots(self) -> int:
        """How many runs can be computed at once; changes as machines come and go."""

    def start(self, job: Job) -> None:
        """Begin to compute `job`; returns at once."""

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        """The runs that ended and were not told of yet; waits at most `timeout` s for one."""

    def faults(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Run id -> why, of those `jobs` that could not begin where runs are computed: `ready`.

        UserError if that cannot be found out.
        """

    def close(self) -> None:
        """End what still runs, and give back what the executor holds."""


class LocalExecutor:
    """One run after the other in this process: for debugging and tests."""

    name = "local"

    def __init__(self, workers: int) -> None:
        if workers > 1:
            raise UserError(
                f"--executor local computes in this process: no place for {workers} workers; "
                "use --executor ray"
            )
        self._jobs: deque[Job] = deque()

    @property
    def slots(self) -> int:
        """See `Executor.slots`."""
        return 1

    def start(self, job: Job) -> None:
        """See `Executor.start`; it is computed in `ended`."""
        self._jobs.append(job)

    def ended(self, timeout: float) -> dict[str, AttemptError | None]:
        """See `Executor.ended`; takes as long as the run does."""
        if not self._jobs:
            time.sleep(timeout)
            return {}
        job = self._jobs.popleft()
        return {job.spec.run_id: _execute(job)}

    def faults(self, jobs: Sequence[Job]) -> dict[str, str]:
        """See `Executor.faults`."""
        from experiments.worker.preflight import faults

        return faults(jobs)

    def close(self) -> None:
        """See `Executor.close`."""
        self._jobs.clear()


def _execute(job: Job) -> AttemptError | None:
    from experiments.worker.run import execute

    try:
        execute(job)
    except Exception as error:  # noqa: BLE001
        # A run may fail in any way; the others go on.
        death = AttemptError.of(error)
    else:
        return None
    _free_memory()
    return death


def _free_memory() -> None:
    """What a failed run leaves on a GPU would be missing to the next one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


#: The names `make_executor` knows.
EXECUTORS = ("ray", "local")


def make_executor(
    name: str,
    *,
    workers: int,
    device: str,
    max_concurrent: int | None,
    address: str | None,
    asha: bool = False,
) -> Executor:
    """The executor called `name` ("ray" or "local"); UserError for another name.

    `asha`: stop runs that fall behind the others (Ray Tune's ASHA).
    """
    if name == "local" and asha:
        raise UserError("--search stops trials early with Ray Tune; use --executor ray")
    if name == "local":
        return LocalExecutor(workers)
    if name != "ray":
        raise UserError(f"unknown executor {name!r}; known: {', '.join(EXECUTORS)}")
    from experiments.scheduler.ray_train import Cluster, RayExecutor

    cluster = Cluster(workers=workers, device=device, limit=max_concurrent, address=address)
    if asha:
        from experiments.scheduler.ray_tune import RaySearch

        return RaySearch(cluster)
    return RayExecutor(cluster)


#: How long a Ray head may take to accept a connection.
CONNECT_SECONDS = 5.0


def check_address(address: str) -> None:
    """UserError unless something listens at a Ray cluster's address; "auto" is this machine's.

    Ray itself waits for minutes for a head that is not there.
    """
    known = _this_machines_cluster() if address == "auto" else address
    if address == "local":
        return
    if known is None:
        raise UserError(
            "--address auto: no Ray cluster runs on this machine; start one with "
            "ray start --head, or give --address HOST:6379"
        )
    parts = urllib.parse.urlsplit(known if "://" in known else f"//{known}")
    try:
        host, port = parts.hostname, parts.port or (10001 if parts.scheme == "ray" else 6379)
    except ValueError:
        host, port = None, 0
    if not host:
        raise UserError(f"--address {address} is no address; give HOST:6379 or auto")
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"--address {address}: {host}:{port} cannot be reached ({error}); start the cluster's "
            "head there, or correct the address; a firewall may be in between"
        ) from error


def _this_machines_cluster() -> str | None:
    """Where `--address auto` leads: $RAY_ADDRESS, else the cluster this machine is a node of."""
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    try:
        return (folder / "ray" / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
