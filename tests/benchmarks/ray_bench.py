"""What a run on Ray costs on top of its training and tests, against a bare Ray Train job.

    python -m tests.benchmarks.ray_bench [further runs]

Tiny runs of the demo, one after the other. Seconds of wall clock; a run's own time is what its
result says of training and tests. Expected on 2 idle CPU cores: at most 13 s a run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

COMMAND = Path(sys.executable).with_name("tcclip")
TINY = (
    "sweep", "zero_shot", "--demo", "--models", "vifi_clip", "--max-concurrent", "1",
    "--set", "train.epochs=1", "--set", "model.num_frames=2",
)  # fmt: skip
#: A Ray Train job on one CPU that does nothing, by a process that has started Ray before.
BARE = """
import sys, time, uuid
from experiments.cluster import find_ray
place = find_ray("local")
place.prepare()
from experiments.scheduler import ray_train  # its settings of Ray are those of a sweep
from pathlib import Path
from tcclip.config import Execution
import ray.train, ray.train.torch
cluster = ray_train.RayExecutor(Execution(device="cpu"), limit=None, place=place)
for _ in range(int(sys.argv[1])):
    begin = time.perf_counter()
    ray.train.torch.TorchTrainer(
        lambda: None,
        scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=False),
        run_config=ray.train.RunConfig(name=uuid.uuid4().hex, storage_path=str(cluster.scratch)),
    ).fit()
    print(time.perf_counter() - begin)
cluster.close()
"""


def bare(jobs: int) -> list[float]:
    """Seconds of each of `jobs` bare Train jobs after one another."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", BARE, str(jobs)], check=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, cwd=tempfile.gettempdir(),
    )  # fmt: skip
    return [float(line) for line in done.stdout.split()]


def swept(folder: Path, executor: str, seeds: int) -> tuple[float, float]:
    """Seconds the command takes for `seeds` runs, and their own seconds, together."""
    out = folder / f"{executor}-{seeds}"
    begin = time.perf_counter()
    subprocess.run(
        [str(COMMAND), *TINY, "--executor", executor, "--out", str(out),
         "--seeds", ",".join(map(str, range(seeds)))],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    whole = time.perf_counter() - begin
    results = [json.loads(path.read_text()) for path in out.glob("runs/*/result.json")]
    assert len(results) == seeds
    return whole, sum(one["provenance"]["wall_seconds"] for one in results)


def main() -> None:
    """One run and several, on Ray and in one process, beside bare jobs."""
    further = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        swept(folder, "local", 2)  # makes the embedded videos
        base = mean(bare(further + 1)[1:])
        print(f"bare Train job, mean of {further} after the first: {base:.1f} s")
        for executor in ("ray", "local"):
            one, own = swept(folder, executor, 1)
            print(
                f"{executor}, a sweep of one run: {one:.1f} s, {one - own:.1f} s on top of its own"
            )
            many, all_own = swept(folder, executor, 1 + further)
            added = (many - one - (all_own - own)) / further
            print(
                f"{executor}: on top of its own, each further run, mean of {further}: {added:.1f} s"
                f" = {added / base:.2f} x the bare job (its own: {(all_own - own) / further:.1f} s)"
            )


if __name__ == "__main__":
    main()
