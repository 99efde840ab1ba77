"""The GPU benchmark runs whole on a CPU, and needs few packages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.gpu_bench.drive import Bench, Clock, Steps
from tests.places import ROOT

#: What a machine with a GPU may not be able to install.
ABSENT = ("ray", "mlflow", "decord", "typer", "pandas", "matplotlib", "pyarrow", "psutil", "rich",
          "pytest", "hypothesis")  # fmt: skip
ARGUMENTS = ("--device", "cpu", "--geometry", "tiny", "--no-compiled", "--minutes")


BLOCKS = {
    "machine", "float64 cases", "precision", "speed", "two runs", "videos for the loader", "loader",
    "class lists",
}  # fmt: skip


def run(folder: Path, minutes: str) -> tuple[list[dict[str, Any]], str]:
    """The rows and the report of a run in which importing any of ABSENT fails."""
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"
    code += "runpy.run_module('tests.benchmarks.gpu_bench', run_name='__main__')"
    command = [sys.executable, "-c", code, *ARGUMENTS, minutes, "--write", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (lines,), (report,) = folder.glob("gpu_bench_*.jsonl"), folder.glob("gpu_bench_*.md")
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert not [row for row in rows if "failed" in row]
    assert all(row["torch"] and row["card"] for row in rows)
    return rows, report.read_text()


def test_what_there_is_no_time_for_is_listed(tmp_path: Path) -> None:
    rows, report = run(tmp_path, "0.05")
    missing = report.split("## Not measured")[1]
    assert "(no time left)" in missing
    assert {row["block"] for row in rows} | {b for b in BLOCKS if f"- {b}: " in missing} == BLOCKS


def test_its_trainer_takes_a_step() -> None:
    bench = Bench(torch.device("cpu"), "tiny")
    steps = Steps(Clock(bench.device), 1)
    execution = bench.execution(micro_batch=4, compile=False)
    bench.train(bench.model("tc_clip"), execution, steps, global_batch=8, precision="fp32")
    assert len(steps.losses) == 1


@pytest.mark.slow
def test_it_runs_whole(tmp_path: Path) -> None:
    rows, report = run(tmp_path, "30")
    assert {row["block"] for row in rows} == BLOCKS | {"kernels of a step"}
    assert all(row["clips_per_s"] > 0 for row in rows if row["block"] in ("speed", "loader"))
    assert "Not measured" not in report
    assert "aten::addmm" in report.split("Where a step's time goes")[1]
