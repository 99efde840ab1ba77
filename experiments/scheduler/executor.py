"""Executors: where runs are computed. Every executor leaves the same files."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
import time
import traceback
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.errors import BrokenGpu, OutOfMemory, UserError, is_permanent
from experiments.worker.job import Job

#: How long a Ray head may take to accept a connection.
CONNECT_SECONDS = 5.0


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
        import torch

        from experiments.worker.run import execute

        job, self._job = self._job, None
        failed: AttemptError | None = None
        try:
            execute(job)
        except Exception as error:  # noqa: BLE001
            # A run may fail in any way; the others go on.
            failed = AttemptError.of(error)
        gc.collect()  # the next run needs the GPU memory that this one left occupied
        torch.cuda.empty_cache()
        return {job.spec.run_id: failed}

    def close(self) -> None:
        return


def check_address(address: str) -> None:
    """UserError unless something listens at a Ray cluster's address; "auto" is this machine's.

    Ray itself waits for minutes for a head that is not there.
    """
    if address == "local":
        return
    known = _cluster_of_this_machine() if address == "auto" else address
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


def _cluster_of_this_machine() -> str | None:
    """The address `auto` stands for: $RAY_ADDRESS, else the cluster this machine is a node of."""
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    with suppress(OSError):
        return (folder / "ray" / "ray_current_cluster").read_text().strip() or None
    return None
