"""Naming a process so that others can tell whether it is still there."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil

_LINUX = Path("/proc/self/stat").exists()


@functools.cache
def place() -> str:
    """Names the machine, its boot and the process namespace: where process ids mean the same."""
    parts = [socket.gethostname()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        with suppress(OSError):  # not Linux: the host name has to do
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text().strip())
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def process_start(pid: int) -> float | None:
    """What tells process `pid` from others with the same id: when it started, in seconds.

    On Linux since the machine booted, so that setting the clock changes nothing; elsewhere since
    the epoch. None if the process is gone or a zombie, or cannot be seen; see `gone`.
    """
    if _LINUX:
        return _start_since_boot(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _start_since_boot(pid: int) -> float | None:
    try:
        # The name before it, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks = fields[0], int(fields[19])
    return None if state in "ZX" else ticks / os.sysconf("SC_CLK_TCK")


def gone(pid: int) -> bool:
    """Whether there is no process `pid` any more; a zombie counts as gone."""
    return process_start(pid) is None and not hidden(pid)


def hidden(pid: int) -> bool:
    """Whether process `pid` is there, and this one may not see it (another user's, `hidepid`)."""
    if process_start(pid) is not None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False  # a zombie
