"""What this machine has for a run: CPUs and memory, as far as its cgroup may use them.

Containers and batch systems limit a process by cgroups, which neither the count of the machine's
CPUs nor its free memory shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY, EVENTS = Path("/proc/meminfo"), Path("/proc/vmstat")


def cpu_count() -> int:
    """CPUs this process may use, at least 1: what the scheduler and cgroups allow."""
    allowed = hasattr(os, "sched_getaffinity")
    cpus = len(os.sched_getaffinity(0)) if allowed else os.cpu_count() or 1
    for folder in _cgroups("cpu"):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            cpus = min(cpus, int(float(quota) / float(period)))
        with suppress(OSError, ValueError):  # version 1: -1 without a limit
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
            if int(quota) > 0:
                cpus = min(cpus, int(quota) // int(period))
    return max(1, cpus)


def free_memory() -> int | None:
    """Bytes that processes can still take before something is killed; None where nobody tells."""
    free = [1024 * kilobytes for kilobytes in [_counter(MEMORY, "MemAvailable:")] if kilobytes]
    for folder in _cgroups("memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with suppress(OSError, ValueError):  # "max": no limit
                room = int((folder / limit).read_text()) - int((folder / used).read_text())
                # Cached files are given back.
                free.append(room + (_counter(folder / "memory.stat", "inactive_file") or 0))
    return max(0, min(free)) if free else None


def killed_for_memory() -> int | None:
    """Processes the system killed for want of memory since it started; None where it does not
    tell."""
    return _counter(EVENTS, "oom_kill")


def _counter(file: Path, name: str) -> int | None:
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            if line.split()[:1] == [name]:
                return int(line.split()[1])
    return None


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of this process's cgroups that limit what `controller` counts, own first."""
    with suppress(OSError):
        for line in OWN_CGROUP.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number != "0" and controller not in controllers.split(","):
                continue
            root = CGROUPS if number == "0" else CGROUPS / controller
            own = root / path.strip("/")
            # In a container the path is the host's: only the root is there.
            yield from (one for one in (own, *own.parents) if one.is_relative_to(root))
