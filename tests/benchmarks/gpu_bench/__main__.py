"""The blocks, in the order of their importance, within the time that is given."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks.gpu_bench import loading, machine, numbers, speed
from tests.benchmarks.gpu_bench.compiling import Compilations, compile_once
from tests.benchmarks.gpu_bench.drive import Bench
from tests.benchmarks.gpu_bench.report import Report
from tests.places import ROOT

#: So many of the first rows are compiled before they are timed.
PREPARED = 6


def main() -> None:
    options = _options()
    # What deterministic cuBLAS needs; it is Hopper's default size, so other rows lose nothing.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    bench = Bench(device, options.geometry)
    if options.compile_only:
        print(json.dumps(compile_once(bench, json.loads(options.compile_only))))
        return
    report = Report(machine.about(device, options.geometry), 60 * options.minutes, options.write)
    measured = machine.describe(device)
    report.add("machine", measured)
    peak = measured["bf16_tflops"] * 1e12

    first, others = speed.grid(bench, options.compiled)
    compilations = Compilations(bench, report)
    compilations.start([row for row in first[:PREPARED] if row["compile"]])
    report.measure("float64 cases", numbers.cases(bench), partial(numbers.holds, bench))
    computed = ("bf16", "float32", "float32, TF32 convolutions")
    rows = [{"computed": one} for one in computed]
    report.measure("precision", rows, partial(numbers.precision, bench))
    numbers.forget()
    compilations.finish()
    report.measure("speed", first, partial(speed.speed, bench, report, peak, True))
    if bench.on_gpu:
        report.measure("micro-batch auto", [{"model": "tc_clip"}], partial(speed.auto, bench))
    rows = [{"deterministic": on, "compile": False} for on in (True, False)]
    report.measure("two runs", rows, partial(numbers.again, bench))
    _loading(bench, report, options)
    report.measure("class lists", speed.lists(bench), partial(speed.list_cost, bench))
    report.measure("speed", others, partial(speed.speed, bench, report, peak, False))
    if options.compiled:
        rows = [{"deterministic": on, "compile": True} for on in (True, False)]
        report.measure("two runs", rows, partial(numbers.again, bench))
    report.write()
    print(report.markdown())


def _loading(bench: Bench, report: Report, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = partial(loading.make_videos, bench, folder)
        report.measure("videos for the loader", [{"codec": "H.264"}], lambda codec: make())
        # As a run of this length trains by default, and as a row of the grid did.
        batch, on = (32, options.compiled) if bench.on_gpu else (4, False)
        workers = loading.WORKERS[bench.device.type]
        rows = [{"workers": n, "batch": batch, "compile": on} for n in workers]
        wait = partial(loading.waited, bench, folder, bench.augment)
        report.measure("loader", rows, wait)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu_bench")
    parser.add_argument("--minutes", type=float, default=8.0, help="start no row that takes longer")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--geometry", default="ViT-B-16", help="a backbone, or tiny")
    parser.add_argument("--no-compiled", dest="compiled", action="store_false",
                        help="leave out what is compiled")  # fmt: skip
    parser.add_argument("--compile-only", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, nargs="?", const=ROOT / "docs", metavar="FOLDER",
                        help="write gpu_bench_DATE.md and .jsonl; default: docs/")  # fmt: skip
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --device cpu --geometry tiny tries the program")
    return options


if __name__ == "__main__":
    main()
