"""What a check found, and how findings are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from experiments.monitor.table import print_rows


@dataclass(frozen=True)
class Finding:
    """One check's outcome. `ok`: None where it does not apply, or is worth knowing only."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


Check = Callable[[], Sequence[Finding]]


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything is broken; what does not apply is not."""
    return 1 if any(one.ok is False for one in findings) else 0


def show(findings: Sequence[Finding], format: str) -> None:
    """Print `findings` for a terminal, as markdown or as JSON."""
    if format == "json":
        print(json.dumps([asdict(one) for one in findings], indent=1))
    elif format == "md":
        rows = [(one.name, _word(one), one.detail, one.remedy) for one in findings]
        cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
        print_rows("", ("check", "", "found", "what to do"), cells, format)
    else:
        rows3 = [(one.name, _word(one), one.detail) for one in findings]
        print_rows("this machine", ("check", "", "found"), rows3, format, left=3)
        for one in findings:
            if one.remedy:
                print(f"{one.name}: {one.remedy}")


def _word(finding: Finding) -> str:
    return {True: "ok", False: "BROKEN", None: "note"}[finding.ok]
