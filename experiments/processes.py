"""Python code in a process of its own: for what may crash, hang or read its environment once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

#: Limit on a process, if no other is given.
PROCESS_SECONDS = 80.0


class ProcessFailed(Exception):
    """Why a process gave no answer. `output`: all it said of it."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def run_python(
    code: str,
    text: str = "",
    seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run `code` in its own process; returns the JSON it prints. ProcessFailed with the cause.

    `text`: its standard input. `seconds`: how long it may take, PROCESS_SECONDS by default.
    `environment`: variables beside this process's own.
    """
    seconds = PROCESS_SECONDS if seconds is None else seconds
    # -P: the current folder must not be on the import path.
    command = [sys.executable, "-P", "-c", code]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=seconds, check=False,
            errors="replace", env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = error.stderr.decode(errors="replace") if error.stderr else ""
        raise ProcessFailed(f"no answer within {seconds:g} s, stopped", said) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ProcessFailed(f"the process was ended by {name}", done.stderr)
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        raise ProcessFailed(last[:300], done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
