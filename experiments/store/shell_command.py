"""Commands that are shown to be copied: they work in any folder, and with any environment."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from results.reading.location import Location, location

NAME = "tcclip"


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


def sync_command(out: Location | str) -> str:
    """What brings MLflow's copy of the runs in `out` up to date."""
    return shown(["ui", "--sync"], out)


def _program() -> str:
    """Where this program is, unless its name is enough."""
    if shutil.which(NAME) is None and Path(sys.argv[0]).name == NAME:
        return str(Path(sys.argv[0]).absolute())
    return NAME
