"""A look into one step: kernels, the attention that ran, waits of the host for the device."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.gpu_bench.drive import Hook
from tests.benchmarks.gpu_bench.report import Row

LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
TOP = 20


@dataclass
class Look:
    """Profiles what runs between `start` and `stop`, then counts waits until `counted`.

    `hooks(first)`: where a clock calls them, from boundary `first` on; the waits are counted in a
    step of their own, without the profiler. `share`: how many units (batches) lie between two
    boundaries; numbers are given for one.
    """

    device: torch.device
    share: int = 1
    waits: Counter[str] = field(default_factory=Counter)

    def hooks(self, first: int) -> dict[int, Hook]:
        return {first: self.start, first + 1: self.stop, first + 2: self.counted}

    def start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profiler = profile(activities=activities)
        self._profiler.__enter__()

    def stop(self) -> None:
        self._profiler.__exit__(None, None, None)
        self.events: list[Any] = list(self._profiler.key_averages())
        self._caught = warnings.catch_warnings(record=True)
        self._seen = self._caught.__enter__()
        warnings.simplefilter("always")
        if self.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")

    def counted(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        self._caught.__exit__(None, None, None)
        for one in self._seen or []:
            if "called a synchronizing" in str(one.message):
                self.waits[f"{Path(one.filename).name}:{one.lineno}"] += 1

    # ---- What was seen ----

    def _timed(self) -> list[tuple[str, float, int]]:
        """(name, milliseconds, calls) of every kernel; of every operator where there is no GPU."""
        gpu = self.device.type == "cuda"
        return [
            (e.key, (e.self_device_time_total if gpu else e.self_cpu_time_total) / 1e3, e.count)
            for e in self.events
            if (e.device_type == DeviceType.CUDA if gpu else e.key.startswith("aten::"))
            and not e.is_user_annotation  # such as the optimiser's step, which holds kernels
        ]

    def row(self) -> Row:
        """Counts for one unit."""
        kernels = [one for one in self._timed() if not one[0].startswith(("Memcpy", "Memset"))]
        attention = {
            e.key.split("attention_for_cpu")[0].removeprefix("aten::_scaled_dot_product_"): e.count
            for e in self.events
            if e.key.startswith("aten::_scaled_dot_product_") and e.device_type == DeviceType.CPU
        }
        launches = sum(e.count for e in self.events if e.key.startswith(LAUNCHES))
        return {
            "kernels": sum(count for *_, count in kernels) / self.share,
            "kernel_ms": sum(ms for _, ms, _ in kernels) / self.share,
            "launches": launches / self.share,
            "host_waits": sum(self.waits.values()) / self.share,
            "waits_at": ", ".join(f"{at} x{n}" for at, n in self.waits.most_common(6)),
            "attention_calls": ", ".join(f"{name} x{n}" for name, n in attention.items()),
            "attention_kernels": ", ".join(_attention_kernels(kernels)),
        }

    def table(self) -> str:
        """The kernels that took longest."""
        timed = sorted(self._timed(), key=lambda one: -one[1])
        total = sum(ms for _, ms, _ in timed) or 1.0
        lines = [f"{'ms':>9} {'share':>6} {'calls':>7}  kernel; all: {total / self.share:.1f} ms"]
        for name, ms, count in timed[:TOP]:
            calls = count / self.share
            lines.append(f"{ms / self.share:9.3f} {ms / total:6.1%} {calls:7.0f}  {name[:110]}")
        return "\n".join(lines)


def _attention_kernels(kernels: list[tuple[str, float, int]]) -> list[str]:
    """The families of attention kernels, by what their names hold."""
    families = {"flash": "flash", "cudnn": "cudnn", "fmha": "efficient (cutlass)"}
    found = {
        family
        for name, *_ in kernels
        for part, family in families.items()
        if part in name.lower() and ("attn" in name.lower() or "fmha" in name.lower()
                                     or "flash" in name.lower() or "sdpa" in name.lower())
    }  # fmt: skip
    return sorted(found)
