"""Clips a second of the training loader against a bare decord loop, in one run.

    python tests/benchmarks/data_bench.py [FOLDER_OF_VIDEOS] [--cores 1,2] [--seconds 10]

Both read the same frames of the same files: 16 a clip, by the train rule, one index at a time.
The loop only decodes; the loader also decodes in a process that can be killed, crops, flips,
jitters and collates, at the published sizes. Without a folder: the embedded videos. The ratio is
what counts: seconds differ between machines. On one core both are also measured in processor time,
which a busy machine does not spoil. Not a test: nothing is asserted on time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from tcclip.config import AugmentConfig
from tcclip.data import moving_shapes
from tcclip.data.annotations import Item
from tcclip.data.clips import TrainClips
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.decord_reader import read_published
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.loader import TrainLoader
from tcclip.data.loader_pool import LoaderPool
from tcclip.data.sampling import train_indices
from tcclip.data.seeding import seeded_rng

FRAMES, BATCH = 16, 4


@dataclass(frozen=True)
class Rate:
    """Clips a second on the clock, and a second of processor time (children waited for too)."""

    wall: float
    cpu: float


class Clock:
    """Time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._used()

    def wall(self) -> float:
        return time.perf_counter() - self._wall

    def rate(self, clips: int) -> Rate:
        return Rate(clips / self.wall(), clips / (self._used() - self._cpu))

    @staticmethod
    def _used() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def _by_decord(files: Sequence[Path], seconds: float) -> Rate:
    """One process that opens, seeks and does nothing else."""
    clock, clips = Clock(), 0
    while clock.wall() < seconds:
        for file in files:
            rng = seeded_rng("bench", clips)
            read_published(file, lambda total, rng=rng: train_indices(total, FRAMES, rng))
            clips += 1
    return clock.rate(clips)


def _by_loader(files: Sequence[Path], seconds: float, workers: int) -> Rate:
    """The loader, after its workers have started and filled their queues."""
    torch.set_num_threads(1)
    items = [Item(str(file), 0) for file in files] * (-(-64 // len(files)))
    augment = AugmentConfig()
    clips = TrainClips(items, Path, num_frames=FRAMES, augment=augment, seed=0, decoder=Decoder())
    loader = TrainLoader(clips, global_batch=BATCH, chunk_size=BATCH, pool=LoaderPool(workers))
    batches = (batch for epoch in itertools.count() for batch in loader.epoch(epoch))
    for _ in range(4 * workers):
        next(batches)
    clock, done = Clock(), 0
    while clock.wall() < seconds:
        done += len(next(batches).labels)
    clips.decoder.close()
    return clock.rate(done)


def _apart(target: Callable[..., Rate], *arguments: object) -> Rate:
    """`target` in a process of its own, gone afterwards with all it started."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(target, *arguments).result()


def _decord_processes(files: Sequence[Path], seconds: float, processes: int) -> float:
    """Clips a second of several such loops at once."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(_by_decord, [files[:1]] * processes, [0.1] * processes))
        rates = pool.map(_by_decord, [files] * processes, [seconds] * processes)
        return sum(rate.wall for rate in rates)


def _files(folder: Path | None) -> list[Path]:
    """Videos that both can read."""
    if folder is None:
        made = moving_shapes.ensure_built(
            Path(tempfile.gettempdir()) / "tcclip-bench" / "moving_shapes"
        )
        return sorted((made / "videos").iterdir())[::20]
    readable = []
    decoders = [Decoder("published"), Decoder("pyav")]
    for file in sorted(folder.iterdir()):
        try:
            for decoder in decoders:
                decoder.read(file, lambda total: [total // 2])
        except UnreadableVideo as error:
            print(f"left out: {error}")
        else:
            readable.append(file)
    return readable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--match", default="", help="only files whose name starts so")
    parser.add_argument("--cores", default="1,2")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    files = [file for file in _files(options.folder) if file.name.startswith(options.match)]
    allowed = sorted(os.sched_getaffinity(0))
    for cores in map(int, options.cores.split(",")):
        os.sched_setaffinity(0, allowed[:cores])
        if cores == 1:
            decord = _apart(_by_decord, files, options.seconds)
            loader = _apart(_by_loader, files, options.seconds, 0)
            _show(cores, len(files), "cpu", decord.cpu, loader.cpu)
            _show(cores, len(files), "wall", decord.wall, loader.wall)
        else:
            several = _decord_processes(files, options.seconds, cores)
            loader = _apart(_by_loader, files, options.seconds, cores)
            _show(cores, len(files), "wall", several, loader.wall)


def _show(cores: int, videos: int, clock: str, decord: float, loader: float) -> None:
    row = {
        "cores": cores, "videos": videos, "clock": clock,
        "decord_clips_per_second": round(decord, 2),
        "loader_clips_per_second": round(loader, 2), "ratio": round(loader / decord, 3),
    }  # fmt: skip
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
