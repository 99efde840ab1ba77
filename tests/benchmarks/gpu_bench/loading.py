"""The real loader feeding the real step: how long the step waits for videos."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tcclip.config import AugmentConfig
from tcclip.data.annotations import Item
from tcclip.data.clips import TrainClips
from tcclip.data.decode.decoder import Decoder
from tcclip.data.loader import Batch, TrainLoader
from tcclip.data.loader_pool import LoaderPool
from tests.benchmarks.gpu_bench.drive import Bench, Clock, Steps
from tests.benchmarks.gpu_bench.report import Row
from tests.made_videos import pictures, write_video

WORKERS = {"cuda": (12, 4, 0), "cpu": (0, 2)}
SECONDS = 25.0


@dataclass
class Waiting:
    """A loader, and when each of its chunks was asked for and came."""

    loader: TrainLoader
    waits: list[tuple[float, float]] = field(default_factory=list)

    @property
    def chunk_size(self) -> int:
        return self.loader.chunk_size

    @property
    def waited(self) -> float:
        return self.loader.waited

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        chunks = self.loader.epoch(epoch, start_step)
        while True:
            asked = time.perf_counter()
            batch = next(chunks)
            self.waits.append((asked, time.perf_counter()))
            yield batch


def make_videos(bench: Bench, folder: Path) -> Row:
    """H.264 files as a data set has them: 10 seconds of 340 x 256, or small ones for a CPU."""
    count, frames, height, width = (24, 250, 256, 340) if bench.on_gpu else (
        4, 24, 64, 96)  # fmt: skip
    began = time.perf_counter()
    for number in range(count):
        shown = pictures(frames, height, width, tint=9 * number)
        write_video(folder / f"{number}.mp4", shown=shown, preset="veryfast")
    return {"made": count, "frames": frames, "size": f"{width}x{height}",
            "seconds": time.perf_counter() - began}  # fmt: skip


def waited(
    bench: Bench, folder: Path, augment: AugmentConfig, *, workers: int, batch: int, compile: bool
) -> Row:
    """Training steps from files; the share of the time in which the step had no batch."""
    total = 64 if bench.on_gpu else 8
    warm = 2 if bench.on_gpu else 1
    made = len(list(folder.glob("*.mp4")))
    model = bench.model("tc_clip")
    clips = TrainClips(
        [Item(f"{i % made}.mp4", i % 51) for i in range(total * 100)],
        folder.joinpath,
        num_frames=model.config.num_frames,
        augment=augment,
        seed=0,
        decoder=Decoder(augment.reader),
        augment_later=bench.on_gpu,
    )
    loader = Waiting(
        TrainLoader(clips, global_batch=total, chunk_size=max(batch, 4), pool=LoaderPool(workers))
    )
    steps = Steps(Clock(bench.device), warm + (6 if workers else 1) if bench.on_gpu else 2, SECONDS)
    execution = bench.execution(micro_batch=batch, compile=compile)
    bench.train(model, execution, steps, global_batch=total, loader=loader)
    clips.decoder.close()
    times = steps.clock.times
    begin, end = times[min(warm, len(times)) - 1], times[-1]
    if end == begin:
        return {"failed": f"no {warm + 1} steps within {SECONDS:g} s"}
    lost = sum(came - asked for asked, came in loader.waits if begin <= asked and came <= end)
    measured = len(times) - warm
    return {
        "clips_per_s": measured * total / (end - begin),
        "share_waited": lost / (end - begin),
        "n": measured,
    }
