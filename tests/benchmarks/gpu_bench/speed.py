"""Clips a second: the grid of settings, and what long class lists cost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from tcclip.memory import (
    LARGEST_MICRO_BATCH,
    available_memory,
    largest_that_fits,
    memory_limit,
    training_peak,
    undisturbed,
)
from tests.benchmarks.gpu_bench.drive import Bench, Clock, Steps, determinism
from tests.benchmarks.gpu_bench.profiles import Look
from tests.benchmarks.gpu_bench.report import Report, Row

GLOBAL_BATCH = 64
#: Classes and their text length: HMDB-51's, K400's own names, K400's names by an LLM.
LISTS = {"51 names": (51, 30), "400 names": (400, 30), "400 LLM names": (400, 77)}


def grid(bench: Bench, compiled: bool) -> tuple[list[Row], list[Row]]:
    """The rows to begin with, which are profiled, and the others; the most telling first."""
    sizes = (32, 16, 8, 4, 64) if bench.on_gpu else (4,)
    rows = [
        {"mode": mode, "model": model, "batch": batch, "deterministic": deterministic,
         "compile": compile}
        for deterministic in (False, True)
        for batch in sizes
        for compile in ((True, False) if compiled else (False,))
        for mode, models in (("train", ("tc_clip",)), ("evaluate", ("tc_clip", "vifi_clip")))
        for model in models
        # Evaluation is deterministic in any case, but for the price of the setting.
        if not (mode == "evaluate" and deterministic and batch != sizes[0])
    ]  # fmt: skip
    first = [row for row in rows if row["batch"] == sizes[0] and not row["deterministic"]]
    second = [row for row in rows if row["batch"] in sizes[1:2] and row["compile"]
              and row["mode"] == "train" and not row["deterministic"]]  # fmt: skip
    # What is tuned first, then what it is compared with.
    first.sort(key=lambda row: (row["model"] != "tc_clip", not row["compile"]))
    return first + second, [row for row in rows if row not in first + second]


def speed(
    bench: Bench, report: Report, peak: float, looks: bool, *,
    mode: str, model: str, batch: int, deterministic: bool, compile: bool,
) -> Row:  # fmt: skip
    """One row of the grid; with `looks`, the step is profiled too."""
    run = _train if mode == "train" else _evaluate
    reset_memory(bench.device)
    with determinism(deterministic):
        row, look = run(bench, model, batch, compile, looks)
    row["peak_gb"], row["reserved_gb"] = memory(bench.device)
    count = bench.training_flops if mode == "train" else bench.evaluation_flops
    clips = total_batch(bench) if mode == "train" else batch
    row["gflop_per_clip"] = count(model, batch, clips) / clips / 1e9
    row["share_of_peak"] = row["clips_per_s"] * row["gflop_per_clip"] * 1e9 / peak
    if look is not None:
        name = f"{mode} {model}, {batch} at once, {'compiled' if compile else 'eager'}"
        unit_ms = 1000 * clips / row["clips_per_s"]
        report.add("kernels of a step", {"step": name, "step_ms": unit_ms, **look.row()})
        report.add_text(f"Where a step's time goes: {name}", look.table())
    return row


def total_batch(bench: Bench) -> int:
    """Videos of an optimiser step."""
    return GLOBAL_BATCH if bench.on_gpu else 8


def _train(
    bench: Bench, name: str, batch: int, compile: bool, looks: bool
) -> tuple[Row, Look | None]:
    total = total_batch(bench)
    look = Look(bench.device) if looks else None
    last = bench.warm + bench.timed
    hooks = look.hooks(last) if look else {}
    count = last + (3 if look else 0) + 1
    steps = Steps(Clock(bench.device, hooks), count)
    execution = bench.execution(micro_batch=batch, compile=compile)
    bench.train(bench.model(name), execution, steps, global_batch=total)
    took = steps.clock.period(bench.warm)
    first = steps.clock.times[0] - steps.began
    return _row(total / took, took / (total // batch), first, bench.timed), look


def _evaluate(
    bench: Bench, name: str, batch: int, compile: bool, looks: bool
) -> tuple[Row, Look | None]:
    look = Look(bench.device, share=bench.segment) if looks else None
    segments = 1 + bench.timed
    clock = Clock(bench.device, look.hooks(segments) if look else {})
    batches = bench.segment * (segments + (2 if look else 0))
    execution = bench.execution(eval_batch=batch, compile=compile)
    bench.evaluate(bench.model(name), execution, clock, batches=batches)
    took = clock.period(1) / bench.segment
    first = clock.times[1] - clock.times[0] - bench.segment * took
    return _row(batch / took, took, first, bench.timed), look


def _row(rate: float, seconds: float, first: float, n: int) -> Row:
    return {
        "clips_per_s": rate,
        "ms_per_batch": 1000 * seconds,
        "first_step_s": first,
        "n": n,
    }


# ---- The micro-batch "auto" ----


def auto(bench: Bench, *, model: str) -> Row:
    """The largest micro-batch that fits, as a run finds it, and what each size took."""
    one = bench.model(model)
    available = available_memory(bench.device, 1.0)
    limit = memory_limit(one, available)
    train = bench.train_config(GLOBAL_BATCH)
    peaks: dict[int, float] = {}

    def peak(size: int) -> int | None:
        try:
            used = training_peak(one, size, train, bench.augment, bench.device)
        except torch.OutOfMemoryError:
            return None
        peaks[size] = round(used / 2**30, 1)
        return used

    began = time.perf_counter()
    sizes = bench.execution().micro_batches(train, LARGEST_MICRO_BATCH)
    with undisturbed(one, bench.device):
        peak(sizes[0])
        found = largest_that_fits(sizes, limit, peak)
    return {
        "found": found,
        "available_gb": available,
        "limit_gb": limit / 2**30,
        "peaks_gb": ", ".join(f"{size}: {used}" for size, used in peaks.items()),
        "seconds": time.perf_counter() - began,
    }


# ---- Long class lists ----


def lists(bench: Bench) -> Iterator[Row]:
    accumulations = (16, 4, 1) if bench.on_gpu else (2,)
    for accumulation in accumulations:
        for names in reversed(LISTS):
            yield {"names": names, "batch": 4, "accumulation": accumulation, "compile": False}


def list_cost(bench: Bench, *, names: str, batch: int, accumulation: int, compile: bool) -> Row:
    """A training step of tc_clip with a class list."""
    classes, length = LISTS[names]
    if bench.geometry == "tiny":
        classes = min(classes, 20)
    total = batch * accumulation
    reset_memory(bench.device)
    steps = Steps(Clock(bench.device), bench.warm + 4)
    execution = bench.execution(micro_batch=batch, compile=compile)
    bench.train(bench.model("tc_clip", classes, length), execution, steps, global_batch=total)
    took = steps.clock.period(bench.warm)
    peak, _ = memory(bench.device)
    flops = bench.training_flops("tc_clip", batch, total, classes, length)
    return {
        "clips_per_s": total / took,
        "gflop_per_clip": flops / total / 1e9,
        "peak_gb": peak,
        "n": 3,
    }


def reset_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def memory(device: torch.device) -> tuple[float | None, float | None]:
    """Peaks of allocated and of reserved memory, GiB; None on a CPU."""
    if device.type != "cuda":
        return None, None
    allocated = torch.cuda.max_memory_allocated(device)
    return allocated / 2**30, torch.cuda.max_memory_reserved(device) / 2**30
