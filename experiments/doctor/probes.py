"""Running checks side by side, and what may crash or hang in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.doctor.report import Check, Finding

#: Limits on one check, and on a process one of them starts.
CHECK_SECONDS, PROBE_SECONDS = 90.0, 80.0


class Broken(Exception):
    """What a probe's process died of."""


def run_all(checks: Mapping[str, Check], seconds: float) -> list[Finding]:
    """The findings of all checks; one that raises or takes too long is a finding itself."""
    found: dict[str, Sequence[Finding]] = {}

    def run(name: str, check: Check) -> None:
        try:
            found[name] = check()
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong with a machine, the other checks are still wanted.
            text = f"{type(error).__name__}: {error}"
            found[name] = [Finding(name, False, line(text), "repair what the message names")]

    threads = {
        name: threading.Thread(target=run, args=(name, check), daemon=True)
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {seconds:g} s"
    hint = "a disk or server it needs hangs; see whether other programs can use it"
    return [one for name in checks for one in found.get(name, [Finding(name, False, late, hint)])]


def probe(code: str, *arguments: str) -> Any:
    """What `code` prints as JSON in a process of its own. Broken with what it died of."""
    # -P: the folder the user stands in must not be on the import path.
    command = [sys.executable, "-P", "-c", code, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Broken(f"no answer within {PROBE_SECONDS:g} s, stopped") from error
    if done.returncode < 0:
        raise Broken(f"the process died of {signal.Signals(-done.returncode).name}")
    if done.returncode > 0:
        raise Broken(line((done.stderr.strip().splitlines() or ["it ended without a word"])[-1]))
    return json.loads(done.stdout.splitlines()[-1])


def line(text: str, longest: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
