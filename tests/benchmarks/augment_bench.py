"""Processor time of a training clip's transform, now and in another checkout of this project.

    python -m tests.benchmarks.augment_bench OTHER_CHECKOUT [--rounds 5]

16 decoded frames to a training clip on one core, by `TrainTransform`; "handed over" is what a
loader has left to do where a GPU augments. The checkouts take turns; the least time of all rounds
counts. The ratio is what matters: milliseconds differ between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.places import ROOT

#: Name -> height and width of the decoded frames, settings.
CASES = {
    "K400, 340 x 256": (256, 340, {}),
    "UCF101 and HMDB51, 320 x 240": (240, 320, {}),
    "SSv2, 427 x 240": (240, 427, {}),
    "K400 without jitter": (256, 340, {"jitter": 0.0, "grey": 0.0}),
    "moving shapes, 32 x 32": (32, 32, {"resize": 36, "crop": 32, "hue": 0.0, "grey": 0.0}),
}
MEASURE = """
import json, sys, time
import numpy as np, torch
from tcclip.config import AugmentConfig
from tcclip.data.transforms import TrainTransform
torch.set_num_threads(1)
found = {}
for name, (height, width, settings) in json.loads(sys.argv[1]).items():
    transform = TrainTransform(AugmentConfig(**settings))
    frames = np.random.default_rng(0).integers(0, 256, (16, height, width, 3), np.uint8)
    def augment(key):
        transform(frames, np.random.default_rng(key))
    def hand_over(key):
        crop, draws = transform.cut(frames, np.random.default_rng(key))
        transform.collate([crop], [draws])
    ways = {"": augment} | ({", handed over": hand_over} if hasattr(transform, "cut") else {})
    for way, do in ways.items():
        do(0)
        began = time.process_time()
        for key in range(12):
            do(key)
        found[name + way] = (time.process_time() - began) / 12 * 1000
print(json.dumps(found))
"""


def measure(checkout: Path) -> dict[str, float]:
    """Milliseconds a clip in each case."""
    command = [sys.executable, "-c", MEASURE, json.dumps(CASES)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    result = subprocess.run(
        command, cwd=checkout, env=environment, check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(result.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    least: dict[Path, dict[str, float]] = {options.other: {}, ROOT: {}}
    for _ in range(options.rounds):
        for checkout, times in least.items():
            for name, value in measure(checkout).items():
                times[name] = min(value, times.get(name, value))
    before, now = least[options.other], least[ROOT]
    print("| 16 frames | before, ms | now, ms | before / now |\n|---|---|---|---|")
    for name, value in now.items():
        earlier = before.get(name, before[name.removesuffix(", handed over")])
        print(f"| {name} | {earlier:.1f} | {value:.1f} | {earlier / value:.1f} |")


if __name__ == "__main__":
    main()
