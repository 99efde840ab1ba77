"""A training step and an evaluation forward at full size, beside those of another checkout.

    python -m tests.benchmarks.step_bench --baseline CHECKOUT [--steps 1]

CHECKOUT holds another version of this project, such as `git worktree add CHECKOUT f705e7f`. Both
train ViT-B/16 with their own trainer on videos of noise: 16 frames, batches of 4, 4 of them a step,
400 class names as long as Kinetics' rephrased ones. Activations are recomputed on both sides:
otherwise a step of f705e7f takes more than 24 GB. Prints seconds and ratios; a side takes eight to
fifteen minutes of two cores. Expected against f705e7f: at least 1.5 for the step, 0.95 for the
forward. Not a test: nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parents[2]
FRAMES, BATCH, ACCUMULATED, CLASSES, LENGTH = 16, 4, 4, 400, 77


class Score(dict[str, float]):
    """What one version reads as a mapping, the other as attributes."""

    top1 = top5 = 0.0
    videos = 1

    def __init__(self) -> None:
        super().__init__(top1=0.0, top5=0.0, videos=1)


class Chunks:
    """The loader: the same few videos again and again."""

    chunk_size = load_batch = BATCH
    waited = 0.0

    def __init__(self, steps: int, nothing: Any) -> None:
        from tcclip.data.loader import Batch

        generator = torch.Generator().manual_seed(0)
        shape = (BATCH, FRAMES, 3, 224, 224)
        video = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        self.batch = Batch(video, torch.arange(BATCH), torch.arange(BATCH), nothing)
        self.count = steps * ACCUMULATED

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Any]:
        for _ in range(self.count):
            yield self.batch


class Times:
    """The recorder, or journal: when training began, and when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def log(self, record: Mapping[str, Any]) -> None:
        if record["kind"] in ("start", "step"):
            self.times.append(time.perf_counter())

    def interrupted(self) -> bool:
        return False

    def load_last(self, *_: Any) -> None: ...
    def save_last(self, *_: Any, **__: Any) -> None: ...
    def save_best(self, *_: Any, **__: Any) -> None: ...
    def keep_best(self, *_: Any, **__: Any) -> None: ...


def measure(steps: int) -> dict[str, list[float]]:
    """Seconds of the steps, and of some forwards with the class list encoded, in this version."""
    from tcclip.config import AugmentConfig, Execution, TrainConfig
    from tcclip.distributed import current_ranks
    from tcclip.model import create_model
    from tcclip.train import Trainer
    from tests.benchmarks.model_bench import class_names

    torch.set_num_threads(os.cpu_count() or 1)
    now = "recorder" in Trainer.__dataclass_fields__
    times = Times()
    model = create_model(
        "tc_clip", class_names(CLASSES, LENGTH), text_length=LENGTH, num_frames=FRAMES
    )
    forwards = evaluate(model)
    model.set_activation_checkpointing(True)
    Trainer(
        model=model,
        loader=Chunks(steps, [] if now else 0),  # type: ignore[arg-type]
        config=TrainConfig(epochs=1, warmup_epochs=0, lr=1e-6, lr_min=1e-8, precision="fp32",
                           global_batch=BATCH * ACCUMULATED),
        augment=AugmentConfig(),
        execution=Execution(device="cpu", micro_batch=BATCH, activation_checkpointing=True),
        ranks=current_ranks("cpu"),
        seed=0,
        videos=BATCH * ACCUMULATED * steps,
        validate=lambda *_: Score(),
        **{"recorder" if now else "journal": times},  # type: ignore[arg-type]
    ).fit()  # fmt: skip
    ends = zip(times.times, times.times[1:], strict=False)
    return {"step": [end - begin for begin, end in ends], "forward": forwards}


@torch.no_grad()
def evaluate(model: Any) -> list[float]:
    video = torch.randn(BATCH, FRAMES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    classes, seconds = model.eval().encode_classes(), []
    for _ in range(3):
        begin = time.perf_counter()
        model.score(model.encode_video(video), classes)
        seconds.append(time.perf_counter() - begin)
    return seconds


def side(checkout: Path, steps: int) -> dict[str, list[float]]:
    """`measure` in the version that `checkout` holds."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(steps)], check=True, text=True,
        stdout=subprocess.PIPE, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
    )  # fmt: skip
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--baseline", type=Path, metavar="CHECKOUT")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    if options.baseline is None:
        parser.error("give --baseline, the folder of another version")
    before, now = (side(at.resolve(), options.steps) for at in (options.baseline, HERE))
    for what in ("forward", "step"):
        a, b = min(before[what]), min(now[what])
        print(f"{what}: {a:.1f} s before, {b:.1f} s now, {a / b:.2f} times faster "
              f"(the shortest of {len(now[what])})")  # fmt: skip


if __name__ == "__main__":
    main()
