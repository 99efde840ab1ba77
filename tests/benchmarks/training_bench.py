"""Training clips a second of the demo with default options, beside those of another checkout.

    python -m tests.benchmarks.training_bench --baseline CHECKOUT [--epochs 4] [--turns 3]

CHECKOUT holds another version of this project, such as `git worktree add CHECKOUT f705e7f`. Both
sweep two seeds of a model on Ray with their own defaults, in turns, with this Python; counted are
the clips of both runs over the seconds that their epochs took, without validations. The ratio is
what counts: turns are minutes apart, so nothing else should be at work. Expected on 2 idle CPU
cores against f705e7f: at least 1.3. Not a test: nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[2]
#: Videos of the demo's training list.
VIDEOS = 384


def rate(checkout: Path, model: str, epochs: int, cache: Path) -> float:
    """Clips a second that two runs side by side train on, in the version that `checkout` holds."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        command = ["sweep", "zero_shot", "--demo", "--models", model, "--seeds", "0,1"]
        command += ["--set", f"train.epochs={epochs}", "--out", str(out)]
        subprocess.run(
            [sys.executable, "-c", "import cli; cli.main()", *command],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=name,
            env=os.environ | {"PYTHONPATH": str(checkout), "TCCLIP_CACHE": str(cache)},
        )  # fmt: skip
        clips = 0.0
        for file in out.glob("runs/*/metrics.jsonl"):
            records = map(json.loads, file.read_text().splitlines())
            clips += epochs * VIDEOS / sum(one.get("train_seconds", 0.0) for one in records)
        return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for model in ("tc_clip", "vifi_clip"):
            before, now = list[float](), list[float]()
            for turn in range(options.turns):
                # Each turn of this version decodes: a cache of its own.
                cache = Path(name) / f"{model}{turn}"
                before.append(rate(options.baseline.resolve(), model, options.epochs, cache))
                now.append(rate(HERE, model, options.epochs, cache))
                print(f"{model}: {before[-1]:.1f} before, {now[-1]:.1f} now, clips/s")
            ratio = median(b / a for a, b in zip(before, now, strict=True))
            print(f"{model}: {ratio:.2f} times, the median of {options.turns}", flush=True)


if __name__ == "__main__":
    main()
