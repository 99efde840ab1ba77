"""Clips a second: the grid of settings, and what long class lists cost."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tcclip.config import ModelName
from tests.benchmarks.gpu_bench.drive import (
    SEGMENT,
    TIMED,
    WARM,
    Bench,
    Clock,
    Steps,
    determinism,
)
from tests.benchmarks.gpu_bench.profiles import Look
from tests.benchmarks.gpu_bench.report import Report, Row

GLOBAL_BATCH = 64
#: Classes and their text length: HMDB-51's, K400's own names, K400's names by an LLM.
LISTS = {"51 names": (51, 30), "400 names": (400, 30), "400 LLM names": (400, 77)}


def grid(bench: Bench, compiled: bool) -> tuple[list[Row], list[Row]]:
    """The rows to begin with, which are profiled, and the others; the most telling first."""
    sizes = (32, 16, 8, 4, 64) if bench.device.type == "cuda" else (4, 8)
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
    second = [row for row in rows if row["batch"] == sizes[1] and row["compile"]
              and row["mode"] == "train" and not row["deterministic"]]  # fmt: skip
    first.sort(key=lambda row: not row["compile"])
    return first + second, [row for row in rows if row not in first + second]


def speed(
    bench: Bench, report: Report, peak: float, looks: bool, *,
    mode: str, model: ModelName, batch: int, deterministic: bool, compile: bool,
) -> Row:  # fmt: skip
    """One row of the grid; with `looks`, the step is profiled too."""
    run = _train if mode == "train" else _evaluate
    reset_memory(bench.device)
    with determinism(deterministic):
        row, look = run(bench, model, batch, compile, looks)
    row["peak_gb"], row["reserved_gb"] = memory(bench.device)
    row["share_of_peak"] = row["clips_per_s"] * row["gflop_per_clip"] * 1e9 / peak
    if look is not None:
        name = f"{mode} {model}, {batch} at once, {'compiled' if compile else 'eager'}"
        report.add("kernels of a step", {"step": name, **look.row()})
        report.add_text(f"Where a step's time goes: {name}", look.table())
    return row


def _train(
    bench: Bench, name: ModelName, batch: int, compile: bool, looks: bool
) -> tuple[Row, Look | None]:
    total = GLOBAL_BATCH if bench.device.type == "cuda" else 8
    look = Look(bench.device) if looks else None
    hooks = look.hooks(WARM + TIMED) if look else {}
    count = WARM + TIMED + (3 if look else 0) + 1
    steps = Steps(Clock(bench.device, hooks), count)
    execution = bench.execution(micro_batch=batch, compile=compile)
    bench.train(bench.model(name), execution, steps, global_batch=total)
    took = steps.clock.period(WARM)
    flops = bench.training_flops(name, batch, total)
    row = _row(total / took, took / (total // batch), steps.clock.times[0] - steps.began, TIMED)
    return row | {"gflop_per_clip": flops / total / 1e9}, look


def _evaluate(
    bench: Bench, name: ModelName, batch: int, compile: bool, looks: bool
) -> tuple[Row, Look | None]:
    look = Look(bench.device, share=SEGMENT) if looks else None
    segments = 4 if bench.device.type == "cuda" else 2
    clock = Clock(bench.device, look.hooks(segments) if look else {})
    batches = SEGMENT * (segments + (2 if look else 0))
    execution = bench.execution(eval_batch=batch, compile=compile)
    bench.evaluate(bench.model(name), execution, clock, batches=batches)
    took = clock.period(1) / SEGMENT
    first = clock.times[1] - clock.times[0] - SEGMENT * took
    flops = bench.evaluation_flops(name, batch)
    return _row(batch / took, took, first, segments - 1) | {
        "gflop_per_clip": flops / batch / 1e9
    }, look


def _row(rate: float, seconds: float, first: float, n: int) -> Row:
    return {
        "clips_per_s": rate,
        "ms_per_batch": 1000 * seconds,
        "first_step_s": first,
        "n": n,
    }


# ---- Long class lists ----


def lists(bench: Bench) -> Iterator[Row]:
    accumulations = (16, 4, 1) if bench.device.type == "cuda" else (2,)
    for accumulation in accumulations:
        for names in reversed(LISTS):
            yield {"names": names, "batch": 4, "accumulation": accumulation, "compile": False}


def list_cost(bench: Bench, *, names: str, batch: int, accumulation: int, compile: bool) -> Row:
    """A training step of tc_clip with a class list."""
    classes, length = LISTS[names]
    if bench.geometry == "tiny":
        classes = min(classes, 60)
    total = batch * accumulation
    reset_memory(bench.device)
    steps = Steps(Clock(bench.device), 6)
    execution = bench.execution(micro_batch=batch, compile=compile)
    bench.train(bench.model("tc_clip", classes, length), execution, steps, global_batch=total)
    took = steps.clock.period(2)
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
