"""What 10,000 runs cost the commands that only look: status and planning.

    python -m tests.benchmarks.overhead_bench [runs]

Each line is seconds of wall clock, their ratio to reading the bytes of every result.json in the
same process, and CPU seconds (commands: process start included). Expected on 2 idle CPU cores:
`status` under 5 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import protocols
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.monitor.display import statuses
from experiments.monitor.dry_run import dry_run
from experiments.store.attempt_records import record_failure
from experiments.store.lease import claim
from experiments.store.ledger import Ledger
from results.reading.run_folder import RunFolder, State
from results.records import Result
from tcclip.config import Execution
from tests.builders import PROVENANCE, make_result
from tests.results.builder import measurements

COMMAND = Path(sys.executable).with_name("tcclip")
#: Of every hundred runs: how many are at work, died, failed or were not begun.
RUNNING, STALE, FAILED, PLANNED = 1, 1, 2, 1
#: Steps an unfinished run has written down, and the epochs they make.
STEPS, STEPS_PER_EPOCH = 2000, 100
REPEATS = 3


def write_folders(out: Path, specs: Sequence[RunSpec]) -> None:
    """A folder for each of `specs`, most of them finished with a result of real size."""
    metrics = metrics_text(STEPS)
    for number, spec in enumerate(specs):
        folder = Ledger(out).folder(spec.run_id)
        folder.path.mkdir(parents=True)
        (folder.path / "spec.json").write_text(
            json.dumps({"run_id": spec.run_id, **spec.model_dump(mode="json")}, indent=1)
        )
        place = number % 100
        if place < RUNNING + STALE + FAILED:
            (folder.path / "metrics.jsonl").write_text(metrics)
            if place < RUNNING:
                _take(folder)
            elif place >= RUNNING + STALE:
                record_failure(
                    folder, "RuntimeError", "RuntimeError: CUDA out of memory", "Traceback ..."
                )
        elif place >= RUNNING + STALE + FAILED + PLANNED:
            (folder.path / "metrics.jsonl").write_text(metrics)
            (folder.path / "result.json").write_text(_result(spec).model_dump_json(indent=1))


def _result(spec: RunSpec) -> Result:
    protocol = protocols.get(spec.key.protocol)
    digests = {f"datasets_splits/some_splits/list{i}.txt": f"{i:064x}" for i in range(10)}
    return make_result(spec).model_copy(
        update={
            "measurements": measurements(protocol, spec.key, lambda *_: 50.0),
            "provenance": PROVENANCE.model_copy(
                update={"digests": digests, "gpu_hours": 4.0, "device": "NVIDIA A100"}
            ),
        }
    )


def _take(folder: RunFolder) -> None:
    """A lease of this process, as a run at work has it, without the thread that renews it."""
    with claim(folder.path):
        kept = {path: path.read_bytes() for path in folder.path.glob("lease-*")}
    for path, data in kept.items():
        path.write_bytes(data)


def metrics_text(steps: int) -> str:
    """The metrics.jsonl of a run that is `steps` steps far."""
    start = {"kind": "start", "step": 0, "epochs": 30, "total_steps": 3000, "host": "node",
             "device": "cpu", "workers": 2, "global_batch": 256, "time": 0.0}  # fmt: skip
    records = [start]
    for step in range(1, steps + 1):
        epoch = (step - 1) // STEPS_PER_EPOCH + 1
        records.append(
            {"kind": "step", "epoch": epoch, "step": step, "loss": 1.234567890123, "lr": 8e-06,
             "lr_fast": 8e-05, "time": float(step)}
        )  # fmt: skip
        if step % STEPS_PER_EPOCH == 0:
            records.append(
                {"kind": "epoch", "epoch": epoch, "step": step, "loss": 1.2, "replaced": 0,
                 "top1": 50.0, "top5": 75.0, "videos": 1000, "train_seconds": 99.0,
                 "time": float(step)}
            )  # fmt: skip
    return "".join(json.dumps(record) + "\n" for record in records)


def read_all(out: Path) -> int:
    """The baseline: the bytes of every result.json there is, in one process and one thread."""
    total = 0
    for path in (out / "runs").iterdir():
        try:
            total += len((path / "result.json").read_bytes())
        except FileNotFoundError:
            continue
    return total


def best(action: Callable[[], object]) -> tuple[float, float]:
    """The shortest of a few times, in seconds of wall clock, and the fewest of all CPUs."""
    walls, cpus = [], []
    for _ in range(REPEATS):
        begin, before = time.perf_counter(), sum(os.times()[:4])
        action()
        walls.append(time.perf_counter() - begin)
        cpus.append(sum(os.times()[:4]) - before)
    return min(walls), min(cpus)


def command(*arguments: str) -> Callable[[], object]:
    """`tcclip ARGUMENTS` as a process of its own; CalledProcessError if it fails."""
    return lambda: subprocess.run(
        [str(COMMAND), *arguments], check=True, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir()
    )


def main() -> None:
    """Make the folders, then time every way of looking at them."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    grid = Grid("zero_shot", seeds=tuple(range(runs)))
    wide = Grid(
        "few_shot",
        models=("tc_clip", "vifi_clip"),
        variants=("base", "llm", "pretrained"),
        seeds=tuple(range(max(1, runs // 60))),
    )
    specs, seeds = expand(grid), ",".join(map(str, range(runs)))
    with tempfile.TemporaryDirectory() as folder:
        out, cache = Path(folder) / "out", Path(folder) / "cache"
        os.environ["TCCLIP_CACHE"] = str(cache)
        write_folders(out, specs)
        ledger = Ledger(out)
        status = command("status", "--out", str(out))
        plan = command("sweep", "zero_shot", "--seeds", seeds, "--dry-run", "--out", str(out))

        found = list(ledger.states(specs).values())
        assert found.count(State.FINISHED) >= 0.9 * runs
        print(f"{runs} runs, {read_all(out) / 1e6:.0f} MB of results, {os.cpu_count()} CPUs")
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")
        base, _ = best(lambda: read_all(out))
        for name, action in (
            ("reading every result.json", lambda: read_all(out)),
            (f"expand: {len(specs)} zero_shot runs", lambda: expand(grid)),
            (f"expand: {len(expand(wide))} few_shot runs", lambda: expand(wide)),
            ("states()", lambda: ledger.states(specs)),
            ("statuses()", lambda: statuses(ledger)),
            ("dry_run()", lambda: dry_run(specs, out, Execution(), lambda one: None)),
            ("tcclip --help", command("--help")),
            ("tcclip status", status),
            ("tcclip sweep --dry-run", plan),
        ):
            wall, cpu = best(action)
            numbers = f"{wall:7.2f} s {wall / base:7.1f} x reading {cpu:7.2f} CPU s"
            print(f"{name:40s} {numbers}", flush=True)


if __name__ == "__main__":
    main()
