"""What a user reads when a sweep has ended: what came of it, and how to go on."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from experiments.errors import StorageError
from experiments.scheduler.sweep import Summary
from experiments.store.ledger import Ledger
from results.reading.location import Location, exists, location
from results.reading.run_folder import RunFolder

NAME = "tcclip"


def ending(summary: Summary, out: Location, arguments: Sequence[str]) -> list[str]:
    """Lines on what is not finished, each cause with its log, and the command to go on with.

    `arguments`: those the sweep was started with. Nothing if all is finished.
    """
    if not summary.failed and not summary.left:
        return []
    counts = [f"{len(summary.finished)} finished", f"{len(summary.failed)} failed"]
    for state in ("paused", "not started"):
        number = list(summary.left.values()).count(state)
        counts += [f"{number} {state}"] if number else []
    lines = [", ".join(counts) + (f" ({summary.halt})" if summary.halt else "")]
    for run_id, cause in summary.failed.items():
        tried = summary.attempts.get(run_id, 0)
        times = {0: "", 1: " (1 attempt)"}.get(tried, f" ({tried} attempts)")
        log = Ledger(out).folder(run_id).log
        lines.append(f"failed: {run_id}{times}\n  {cause}\n  log: {log}")
    return [*lines, f"{_what(summary, out)}: {command(arguments, out)}"]


def _what(summary: Summary, out: Location) -> str:
    if not summary.failed:
        return "to go on"
    saved = any(_saved(Ledger(out).folder(run_id)) for run_id in summary.failed)
    return "to try again" + (", from the last checkpoints" if saved else "")


def _saved(folder: RunFolder) -> bool:
    """Whether the run has a checkpoint; of one that cannot be read nobody knows."""
    with suppress(StorageError):
        return exists(folder.last)
    return False


def command(arguments: Sequence[str], out: Location) -> str:
    """The command line to go on with: the same, but what was run again is not deleted again."""
    return shown(without("--rerun", arguments), out)


def shown(arguments: Sequence[str], out: Location | str) -> str:
    """`tcclip ARGUMENTS --out OUT`, quoted for a shell; OUT absolute, instead of another one."""
    kept = without("--out", arguments)
    return shlex.join([_program(), *kept, "--out", str(location(out))])


def without(option: str, arguments: Sequence[str]) -> list[str]:
    """`arguments` but for `option` and its value."""
    kept, skip = [], False
    for one in arguments:
        if not skip and one != option and not one.startswith(f"{option}="):
            kept.append(one)
        skip = one == option
    return kept


def _program() -> str:
    """Where this program is, unless its name is enough."""
    if shutil.which(NAME) is None and Path(sys.argv[0]).name == NAME:
        return str(Path(sys.argv[0]).absolute())
    return NAME
