"""Compiles several settings at once, each in a process of its own, into torch's cache on disk.

Compiling keeps a few CPU cores busy for minutes and the GPU hardly at all: meanwhile the numbers
are checked, and the rows that are timed afterwards find most of the code compiled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.gpu_bench.drive import Bench, Clock, Steps
from tests.benchmarks.gpu_bench.report import Report, Row
from tests.benchmarks.gpu_bench.speed import total_batch
from tests.places import ROOT


@dataclass
class Compilations:
    """Processes that compile the rows of a grid; `finish` reports how long each took, cold."""

    bench: Bench
    report: Report

    def start(self, rows: Sequence[Row]) -> None:
        self.began = time.monotonic()
        self._running = [(row, self._process(row)) for row in rows]

    def _process(self, row: Row) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.benchmarks.gpu_bench"]
        command += ["--device", self.bench.device.type, "--geometry", self.bench.geometry]
        return subprocess.Popen(
            [*command, "--compile-only", json.dumps(row)], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self) -> None:
        """Wait for them, with half of the time left at most."""
        until = time.monotonic() + self.report.left() / 2
        for row, process in self._running:
            try:
                out, said = process.communicate(timeout=max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                took = time.monotonic() - self.began
                self.report.add("compilation", row | {"failed": f"not finished in {took:.0f} s"})
                continue
            last = (said.strip().splitlines() or ["no message"])[-1]
            result = {"failed": last[:200]} if process.returncode else json.loads(out)
            self.report.add("compilation", row | result)


def compile_once(bench: Bench, row: Row) -> Row:
    """The first step of a row of the grid, compiled."""
    model, size = bench.model(row["model"]), row["batch"]
    if row["mode"] == "train":
        steps = Steps(Clock(bench.device), 1)
        execution = bench.execution(micro_batch=size, compile=True)
        bench.train(model, execution, steps, global_batch=total_batch(bench))
        return {"cold_seconds": round(steps.clock.times[0] - steps.began, 1)}
    clock = Clock(bench.device)
    execution = bench.execution(eval_batch=size, compile=True)
    bench.evaluate(model, execution, clock, batches=bench.segment)
    return {"cold_seconds": round(clock.times[1] - clock.times[0], 1)}
