"""The model against the literal transcription of SPEC 2, side by side in the same run.

    python -m tests.benchmarks.model_bench            # prints; about 10 minutes of one CPU core
    python -m tests.benchmarks.model_bench --write    # and writes docs/model_bench_DATE.md

ViT-B/16, 16 frames, 400 classes whose names are as long as Kinetics' (and, at L = 77, as its
rephrased ones). CPU times are user CPU seconds of one thread: on a shared machine the clock on
the wall measures the neighbours, and the system's share measures paging: the plain side's
training step needs about 24 GB, in memory or swap. Memory is resident and swapped together.
Where there is a CUDA device, clips a second are measured as well. Every measurement runs in a
process of its own, so that peaks of memory do not mix.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tcclip.model import Model, create_model
from tcclip.model.tokens import word_ids
from tests.tcclip.model.oracle import Oracle

FRAMES = 16
WORDS = [
    "a", "person", "is", "riding", "the", "small", "red", "horse", "over", "an", "old", "bridge",
    "while", "people", "look", "and", "play",
]  # fmt: skip
#: Shortest, typical and longest text of the 400 classes, in tokens, prompt and both ends included.
LENGTHS = {30: (8, 9, 14), 77: (21, 37, 57)}
#: Dense bf16 peak, FLOP/s, by a part of the device's name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}
ROOT = Path(__file__).parents[2]


def class_names(count: int, length: int) -> list[str]:
    """Made-up names with the spread of text lengths that the real lists have."""
    low, middle, high = LENGTHS[length]
    names = []
    for i in range(count):
        share = (i * 0.618034) % 1
        tokens = low + 2 * share * (middle - low) if share < 0.5 else middle
        if share > 0.9:
            tokens = middle + (share - 0.9) * 10 * (high - middle)
        words = [WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(int(tokens) - 7)]
        names.append(" ".join(words))
    # One as long as the longest there is.
    names[-1] = " ".join(WORDS[j % len(WORDS)] for j in range(high - 7))
    assert len(word_ids(f"{names[-1]}.")) + 6 == high
    return names


def build(classes: int, length: int) -> Model:
    names = class_names(classes, length)
    return create_model("tc_clip", names, text_length=length, num_frames=FRAMES)


def videos(batch: int, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, FRAMES, 3, 224, 224, generator=generator).to(device)


def seconds(run: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """Median of `repeats` timings."""
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def cpu_seconds(run: Callable[[], Any], repeats: int = 1) -> float:
    """User CPU time of one thread, without a warm-up: a run takes seconds."""
    torch.set_num_threads(1)
    return seconds(run, repeats, lambda: resource.getrusage(resource.RUSAGE_SELF).ru_utime)


class PeakMemory:
    """The largest sum of resident and swapped memory of this process, sampled; GiB."""

    def __enter__(self) -> PeakMemory:
        self.gigabytes = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            status = Path("/proc/self/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in status)
            kilobytes = sum(int(fields[name].split()[0]) for name in ("VmRSS", "VmSwap"))
            self.gigabytes = max(self.gigabytes, kilobytes / 2**20)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


# ---- Parts: each prints one JSON line ----


@torch.no_grad()
def evaluation(length: int, classes: int) -> dict[str, float]:
    """Seconds a video: text side and whole forward, plain and ours; and what a list costs once."""
    model = build(classes, length).eval()
    oracle, video = Oracle(model), videos(1)
    features = model.encode_video(video)
    lists = model.encode_classes()
    contexts = [z[0] for z in features.contexts]
    return {
        "text_plain": cpu_seconds(lambda: oracle.text(contexts)),
        "text_ours": cpu_seconds(lambda: model.score(features, lists), 9),
        "list_once": cpu_seconds(model.encode_classes),
        "vision_plain": cpu_seconds(lambda: oracle.vision(video), 2),
        "vision_ours": cpu_seconds(lambda: model.encode_video(video), 2),
    }


def training(
    side: str, classes: int, batch: int = 2, checkpointing: bool = False
) -> dict[str, float]:
    """Seconds of one training step (forward, backward, AdamW), and the process's peak memory."""
    model = build(classes, 30)
    model.set_activation_checkpointing(checkpointing)
    forward = Oracle(model) if side == "plain" else model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6, foreach=False)
    video, labels = videos(batch), torch.arange(batch)

    def step() -> None:
        F.cross_entropy(forward(video).logits, labels).backward()
        optimiser.step()
        optimiser.zero_grad()

    with PeakMemory() as peak:
        took = cpu_seconds(step)
    return {"seconds": took, "peak_gb": peak.gigabytes}


def on_gpu(side: str, mode: str, batch: int) -> dict[str, float]:
    """Clips a second, share of the card's bf16 peak and peak memory, in bf16 autocast."""
    torch.set_float32_matmul_precision("high")
    model = build(400, 30).cuda()
    forward = Oracle(model) if side == "plain" else model
    video, labels = videos(batch, "cuda"), torch.arange(batch, device="cuda")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6)
    lists = model.eval().encode_classes()

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(forward(video).logits, labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        torch.cuda.synchronize()

    @torch.no_grad()
    def evaluate() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            if side == "plain":
                forward(video)
            else:
                model.score(model.encode_video(video), lists)
        torch.cuda.synchronize()

    run = step if mode == "train" else evaluate
    with FlopCounterMode(display=False) as counter:
        run()
    torch.cuda.reset_peak_memory_stats()
    took = seconds(run, 5, time.perf_counter)
    name = torch.cuda.get_device_name()
    peak = next((flops for part, flops in PEAKS.items() if part in name), float("nan"))
    return {
        "clips_per_second": batch / took,
        "share_of_peak": counter.get_total_flops() / took / peak,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30,
    }


PARTS: dict[str, Callable[..., dict[str, float]]] = {
    "evaluation": evaluation,
    "training": training,
    "gpu": on_gpu,
}


def run_part(name: str, *arguments: Any) -> dict[str, float] | str:
    """One part in a fresh process; a message if it failed (out of memory, most likely)."""
    command = [sys.executable, "-m", "tests.benchmarks.model_bench", "--part", name]
    done = subprocess.run(
        [*command, json.dumps(arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["killed (out of memory)"])[-1][:100]
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


# ---- The report ----


def evaluation_rows(classes: int) -> list[str]:
    rows = [
        "## Evaluation, CPU seconds a video", "",
        "| L | what | plain | ours | ratio | wanted |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for length, wanted_text, wanted_whole in ((30, 60, 2.2), (77, 100, 4.0)):
        m = run_part("evaluation", length, classes)
        if isinstance(m, str):
            rows.append(f"| {length} | failed: {m} | | | | |")
            continue
        plain, ours = m["text_plain"] + m["vision_plain"], m["text_ours"] + m["vision_ours"]
        for what, a, b, wanted in (
            ("text side", m["text_plain"], m["text_ours"], f">= {wanted_text}"),
            ("vision side", m["vision_plain"], m["vision_ours"], ""),
            ("whole forward", plain, ours, f">= {wanted_whole}"),
        ):
            rows.append(f"| {length} | {what} | {a:.3f} | {b:.3f} | {a / b:.1f} | {wanted} |")
        rows.append(f"| {length} | class list, once | | {m['list_once']:.3f} | | |")
    return rows


def training_rows(counts: list[int]) -> list[str]:
    """A row a side at every count of classes; ratios only where the plain side fitted."""
    rows = [
        "", "## A training step, batch 2, L = 30", "",
        "| classes | side | CPU seconds | ratio (wanted >= 2) | peak GB | share (wanted <= 0.5) |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for count in counts:
        plain = run_part("training", "plain", count)
        if isinstance(plain, str):
            rows.append(f"| {count} | plain | failed: {plain} | | | |")
        else:
            rows.append(
                f"| {count} | plain | {plain['seconds']:.0f} | | {plain['peak_gb']:.1f} | |"
            )
        for side, checkpointing in (("ours", False), ("ours, activation checkpointing", True)):
            m = run_part("training", "ours", count, 2, checkpointing)
            if isinstance(m, str):
                rows.append(f"| {count} | {side} | failed: {m} | | | |")
                continue
            ratio = share = ""
            if not isinstance(plain, str):
                ratio = f"{plain['seconds'] / m['seconds']:.2f}"
                share = f"{m['peak_gb'] / plain['peak_gb']:.2f}"
            cells = f"{m['seconds']:.0f} | {ratio} | {m['peak_gb']:.1f} | {share}"
            rows.append(f"| {count} | {side} | {cells} |")
    return rows


def gpu_rows() -> list[str]:
    rows = [
        "", f"## {torch.cuda.get_device_name()}, bf16, 400 classes, L = 30", "",
        "| mode | batch | side | clips/s | share of bf16 peak | peak GB |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for mode in ("eval", "train"):
        for batch in (4, 8, 16, 32):
            for side in ("plain", "ours"):
                m = run_part("gpu", side, mode, batch)
                cells = (
                    f"failed: {m} | |"
                    if isinstance(m, str)
                    else f"{m['clips_per_second']:.1f} | {m['share_of_peak']:.1%} "
                    f"| {m['peak_gb']:.1f}"
                )
                rows.append(f"| {mode} | {batch} | {side} | {cells} |")
    return rows


def report(classes: int, counts: list[int]) -> str:
    today = datetime.date.today().isoformat()
    rows = [
        f"# Model benchmark, {today}", "",
        f"`python -m tests.benchmarks.model_bench --write`: ViT-B/16, {FRAMES} frames, {classes} "
        "classes, float32 on the CPU. Plain is `tests/tcclip/model/oracle.py`. Times are user CPU "
        f"seconds of one thread ({platform.machine()}, torch {torch.__version__}); ratios are from "
        "the same run; memory is resident and swapped.", "",
    ]  # fmt: skip
    rows += evaluation_rows(classes)
    rows += training_rows(counts)
    if torch.cuda.is_available():
        rows += gpu_rows()
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="also write docs/model_bench_DATE.md")
    parser.add_argument("--classes", type=int, default=400, help="classes")
    parser.add_argument("--training-classes", default="100,400", help="comma list")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "JSON"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, arguments = options.part
        print(json.dumps(PARTS[name](*json.loads(arguments))))
        return
    text = report(options.classes, [int(c) for c in options.training_classes.split(",")])
    print(text)
    if options.write:
        (ROOT / "docs" / f"model_bench_{datetime.date.today().isoformat()}.md").write_text(text)


if __name__ == "__main__":
    main()
