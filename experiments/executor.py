"""Executors: how a batch of runs is computed. Every executor leaves the same files."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import Protocol

from experiments.errors import LeaseHeld, UserError
from experiments.job import Job


class Executor(Protocol):
    """Computes runs; the run folders say how each of them ended."""

    name: str

    def submit(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Run `jobs`, return when all have ended: run_id -> error of those that did not finish."""

    def close(self) -> None:
        """Give back what the executor holds."""


class LocalExecutor:
    """One run after the other in this process: for debugging and tests."""

    name = "local"

    def __init__(self, workers: int) -> None:
        if workers > 1:
            raise UserError(
                f"--executor local computes in this process: no place for {workers} workers; "
                "use --executor ray"
            )

    def submit(self, jobs: Sequence[Job]) -> dict[str, str]:
        """See `Executor.submit`."""
        from experiments.run import execute

        errors = {}
        for job in jobs:
            try:
                execute(job)
            except LeaseHeld:
                continue  # somebody else is at it: the sweep waits for them
            except Exception as error:  # noqa: BLE001
                # A run may fail in any way; its own record has the traceback, the others go on.
                errors[job.spec.run_id] = "".join(traceback.format_exception_only(error)).strip()
        return errors

    def close(self) -> None:
        """See `Executor.close`."""


def make_executor(
    name: str,
    *,
    workers: int,
    device: str,
    max_concurrent: int | None,
    address: str | None,
    halving: bool = False,
) -> Executor:
    """The executor called `name` ("ray" or "local"); UserError for another name.

    `halving`: stop runs that fall behind the others (Ray Tune's ASHA).
    """
    if name == "local" and halving:
        raise UserError("--search stops trials early with Ray Tune; use --executor ray")
    if name == "local":
        return LocalExecutor(workers)
    if name == "ray":
        from experiments.ray_executor import RayExecutor

        return RayExecutor(
            workers=workers, device=device, max_concurrent=max_concurrent, address=address,
            halving=halving,
        )  # fmt: skip
    raise UserError(f"unknown executor {name!r}; known: ray, local")


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
