"""The GPU benchmark runs whole on a CPU, and needs few packages."""

import json
import subprocess
import sys
from pathlib import Path

from tests.places import ROOT

#: What a machine with a GPU may not be able to install.
ABSENT = ("ray", "mlflow", "decord", "typer", "pandas", "matplotlib", "pyarrow", "psutil", "rich",
          "pytest", "hypothesis")  # fmt: skip
RUN = "import runpy; runpy.run_module('tests.benchmarks.gpu_bench', run_name='__main__')"
ARGUMENTS = ("--device", "cpu", "--geometry", "tiny", "--no-compiled", "--minutes")


def run_without_them(code: str, *arguments: str) -> str:
    """`code` in a process in which importing any of ABSENT fails; what it printed."""
    block = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"
    command = [sys.executable, "-c", block + code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_needs_few_packages() -> None:
    run_without_them("import tcclip.train, tcclip.evaluate, tcclip.data.loader, tcclip.model")


def test_it_runs_whole_on_a_cpu(tmp_path: Path) -> None:
    run_without_them(RUN, *ARGUMENTS, "30", "--write", str(tmp_path))
    (lines,) = tmp_path.glob("gpu_bench_*.jsonl")
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert not [row for row in rows if "failed" in row]
    assert {row["block"] for row in rows} == {
        "machine", "float64 cases", "precision", "kernels of a step", "speed", "two runs",
        "videos for the loader", "loader", "class lists",
    }  # fmt: skip
    assert all(row["clips_per_s"] > 0 for row in rows if row["block"] in ("speed", "loader"))
    assert all(row["torch"] and row["card"] for row in rows)
    (written,) = tmp_path.glob("gpu_bench_*.md")
    assert "Not measured" not in written.read_text()


def test_what_there_is_no_time_for_is_listed(tmp_path: Path) -> None:
    run_without_them(RUN, *ARGUMENTS, "0", "--write", str(tmp_path))
    (written,) = tmp_path.glob("gpu_bench_*.md")
    assert "(no time left)" in written.read_text()
