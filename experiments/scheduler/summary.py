"""What a user reads when a sweep has ended: what came of it, and how to continue."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.errors import StorageError
from experiments.store.ledger import Ledger
from results.reading.location import Location, exists, location


@dataclass(frozen=True)
class Summary:
    """How a sweep ended. `failed`: run_id -> why; `attempts`: run_id -> how often it was tried.

    `left`: run_id -> "paused" or "not started"; `halt`: why, where it was the sweep's decision;
    `signal`: the one that ended the sweep; `restored`: runs of a rerun that are as before.
    """

    finished: tuple[str, ...]
    failed: dict[str, str]
    attempts: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    halt: str | None = None
    signal: int | None = None
    restored: frozenset[str] = frozenset()
    #: GPUs that failed -> under how many attempts.
    broken_gpus: dict[str, int] = field(default_factory=dict)
    #: Nobody should wait for MLflow again.
    mlflow_failed: bool = False
    #: There were runs to do.
    computed: bool = True

    @property
    def exit_code(self) -> int:
        """0 only if everything asked for is finished; 128 + the signal that left something."""
        if self.left and self.signal is not None:
            return 128 + self.signal
        return 1 if self.failed or self.left else 0

    @property
    def asks_mlflow(self) -> bool | None:
        """Whether there is a new table for MLflow to keep: importing it takes seconds.

        None: it does not answer.
        """
        return None if self.mlflow_failed else self.computed


def summary_lines(summary: Summary, out: Location, arguments: Sequence[str]) -> list[str]:
    """Lines on what is not finished, each cause with its log, and the command to go on with.

    `arguments`: those the sweep was started with. If all is finished, only GPUs that failed.
    """
    broken = [
        f"{gpu}: failed under {count} attempt{'s' * (count > 1)}; look at nvidia-smi -q and dmesg "
        "(Xid) there before it is used again"
        for gpu, count in summary.broken_gpus.items()
    ]
    if not summary.failed and not summary.left:
        return broken
    counts = [f"{len(summary.finished)} finished", f"{len(summary.failed)} failed"]
    for state in ("paused", "not started"):
        number = list(summary.left.values()).count(state)
        counts += [f"{number} {state}"] if number else []
    lines = [", ".join(counts) + (f" ({summary.halt})" if summary.halt else ""), *broken]
    for run_id, cause in summary.failed.items():
        tried = summary.attempts.get(run_id, 0)
        times = {0: "", 1: " (1 attempt)"}.get(tried, f" ({tried} attempts)")
        log = Ledger(out).folder(run_id).log
        lines.append(f"failed: {run_id}{times}\n  {cause}\n  log: {log}")
    if summary.restored >= summary.failed.keys() | summary.left.keys():
        return lines  # a sweep without --rerun has nothing to do
    command = shell_command(without("--rerun", arguments), out)  # continues what has begun
    return [*lines, f"{_next_step(summary, out)}: {command}"]


def _next_step(summary: Summary, out: Location) -> str:
    if not summary.failed:
        return "to go on"
    with suppress(StorageError):
        if any(exists(Ledger(out).folder(run_id).last) for run_id in summary.failed):
            return "to try again, from the last checkpoints"
    return "to try again"


def shell_command(arguments: Sequence[str], out: Location | str) -> str:
    """`tcclip ARGUMENTS --out OUT`, quoted for a shell; OUT absolute, instead of another one."""
    program, own = "tcclip", Path(sys.argv[0])
    if shutil.which(program) is None and own.name == program:
        program = str(own.absolute())
    return shlex.join([program, *without("--out", arguments), "--out", str(location(out))])


def without(option: str, arguments: Sequence[str]) -> list[str]:
    """`arguments` but for `option` and its value."""
    kept, skip = [], False
    for one in arguments:
        if not skip and one != option and not one.startswith(f"{option}="):
            kept.append(one)
        skip = one == option
    return kept
