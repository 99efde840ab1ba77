"""What a check found, running checks side by side, and showing what they found."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from experiments.errors import UserError
from experiments.monitor.table import print_rows

#: Limit on all checks together.
CHECK_SECONDS = 90.0


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. `ok` is None where it does not apply, or is only worth knowing."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""

    @classmethod
    def from_error(cls, name: str, error: UserError) -> Self:
        """From an error whose message says what is wrong and, after a semicolon, what to do."""
        detail, _, remedy = str(error).partition("; ")
        return cls(name, False, detail, remedy or "do what the message says")


Check = Callable[[], Finding | list[Finding]]


def run_checks(checks: Mapping[str, Check]) -> list[Finding]:
    """The findings of all checks, in their order; one that raises or hangs becomes a finding."""
    found: dict[str, list[Finding]] = {}

    def run(name: str, check: Check) -> None:
        try:
            result = check()
        except UserError as error:
            result = Finding.from_error(name, error)
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong with a machine, the other checks have to run.
            detail = f"{type(error).__name__}: {error}"
            result = Finding(name, False, detail, "repair what the message names")
        found[name] = result if isinstance(result, list) else [result]

    # Daemon threads: one that hangs does not keep the process from ending.
    threads = [threading.Thread(target=run, args=one, daemon=True) for one in checks.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + CHECK_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {CHECK_SECONDS:g} s"
    hint = "a disk or server it needs does not answer; check whether other programs can use it"
    return [one for name in checks for one in found.get(name, [Finding(name, False, late, hint)])]


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything is broken, else 0."""
    return 1 if any(one.ok is False for one in findings) else 0


def show(findings: Sequence[Finding], format: str) -> None:
    """Print `findings` for a terminal, as markdown or as JSON."""
    if format == "json":
        print(json.dumps([asdict(one) for one in findings], indent=1))
        return
    words = {True: "ok", False: "BROKEN", None: "note"}
    rows = [(one.name, words[one.ok], " ".join(one.detail.split()), one.remedy) for one in findings]
    if format == "md":
        cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
        print_rows("", ("check", "", "found", "what to do"), cells, format)
        return
    print_rows("this machine", ("check", "", "found"), [row[:3] for row in rows], format, left=3)
    for one in findings:
        if one.remedy:
            print(f"{one.name}: {one.remedy}")
