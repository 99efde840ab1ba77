"""What the machine is, and the two rates that bound everything else."""

from __future__ import annotations

import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable

import torch

from tests.benchmarks.gpu_bench.report import Row

REPEATS = 20


def about(device: torch.device, geometry: str) -> dict[str, str]:
    """What is said of every row."""
    on_gpu = device.type == "cuda"
    return {
        "card": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "CPU",
        "device": device.type,
        "geometry": geometry,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def describe(device: torch.device) -> Row:
    """Driver, memory, the bf16 matrix-product peak and the rate of copies within the device."""
    row: Row = {"torch": torch.__version__, "cuda": torch.version.cuda or ""}
    size, megabytes = (8192, 1024) if device.type == "cuda" else (128, 16)
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        row |= {
            "card": facts.name,
            "driver": _driver(),
            "memory_gb": facts.total_memory / 2**30,
            "multiprocessors": facts.multi_processor_count,
        }
    row |= {"bf16_tflops": peak_flops(device, size) / 1e12, "matrix": size, "n": REPEATS}
    source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    took = seconds(device, lambda: target.copy_(source))
    row["copy_gb_per_s_read_and_written"] = 2 * len(source) / took / 1e9
    return row


def peak_flops(device: torch.device, size: int) -> float:
    """FLOP/s of a square bf16 matrix product of random numbers."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(device, lambda: a @ b)


def seconds(device: torch.device, run: Callable[[], object]) -> float:
    """Median of REPEATS timings on the device, after as many quarter warm-ups."""
    for _ in range(REPEATS // 4):
        run()
    return statistics.median(_once(device, run) for _ in range(REPEATS))


def _once(device: torch.device, run: Callable[[], object]) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown: no nvidia-smi"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.strip().splitlines() or ["unknown"])[0]
