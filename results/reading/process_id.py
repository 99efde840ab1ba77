"""Identifying a process, so that others can tell whether it still runs."""

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
    """A digest of the machine, its boot and the process namespace: the scope of a process id."""
    parts = [socket.gethostname()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        with suppress(OSError):  # not Linux: the host name has to do
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text().strip())
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def process_start(pid: int) -> float | None:
    """When process `pid` started, in seconds; tells it from a later one with the same id.

    Since the boot on Linux, where a change of the clock does no harm; elsewhere since the epoch.
    None if the process is gone, a zombie, or cannot be seen (see `hidden`).
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
        # The process name in brackets, before the fields, may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks = fields[0], int(fields[19])
    return None if state in "ZX" else ticks / os.sysconf("SC_CLK_TCK")


def gone(pid: int) -> bool:
    """Whether there is no process `pid` any more; a zombie counts as gone."""
    return process_start(pid) is None and not hidden(pid)


def hidden(pid: int) -> bool:
    """Whether process `pid` runs, but cannot be seen by this user (`hidepid`)."""
    if process_start(pid) is not None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        pass
    return False
