"""Processor milliseconds that a loader spends on a clip, from a pack and from the videos.

    python -m tests.benchmarks.pack_bench [FOLDER_OF_VIDEOS] [--clips 12] [--quality 92]

A line a data set, told by the beginning of the files' names. 16 frames are read by the train rule
and cut as for a GPU, which does the rest (`--all`: everything, as on a CPU, but the jitter). Both
sides take turns in one run, in their own process and its decoder's. The ratio is what counts.
Without the folder (the tests' real clips) nothing is measured. Not a test: nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import psutil
import torch

from experiments.datasets.pack.packed_video import write_packed
from experiments.datasets.pack.record import PackedFile
from protocols.datasets import Pack
from tcclip.config import AugmentConfig
from tcclip.data.annotations import Item
from tcclip.data.clips import TrainClips, TrainKey
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.images.packed_video import ENDING
from tests.places import SHARED

DATASETS = ("k400", "ucf101", "ssv2", "hmdb51")


def _processor_seconds() -> float:
    me = psutil.Process()
    times = [one.cpu_times() for one in (me, *me.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _measured(clips: TrainClips, epoch: int) -> float:
    before = _processor_seconds()
    for index in range(len(clips.items)):
        clips[TrainKey(epoch, 0, index)]
    return _processor_seconds() - before


def _clips(files: list[Path], later: bool) -> TrainClips:
    augment = AugmentConfig(jitter=0.0, grey=0.0)
    items = [Item(str(file), 0) for file in files]
    return TrainClips(
        items, Path, num_frames=16, augment=augment, seed=0, decoder=Decoder(), augment_later=later
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED / "videos")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--quality", type=int, default=92)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.folder.is_dir():
        raise SystemExit(f"{options.folder} is not there: nothing to measure")
    with tempfile.TemporaryDirectory() as made:
        for name in DATASETS:
            files = sorted(options.folder.glob(f"{name}_*"))
            if files:
                _show(name, files, Path(made), options)


def _show(name: str, files: list[Path], made: Path, options: argparse.Namespace) -> None:
    packed: dict[Path, PackedFile] = {}
    decoder = Decoder()
    for file in files:
        path = made / f"{file.name}{ENDING}"
        packed[path] = write_packed(decoder, file.name, file, path, Pack(quality=options.quality))
    decoder.close()
    sides = {
        "source": _clips(files, not options.all),
        "pack": _clips(list(packed), not options.all),
    }
    spent = dict.fromkeys(sides, 0.0)
    epochs = -(-options.clips // len(files))
    for epoch in range(epochs + 1):
        for side, clips in sides.items():
            seconds = _measured(clips, epoch)
            spent[side] += seconds * (epoch > 0)  # the first starts the decoder
    sides["source"].decoder.close()
    ms = {side: 1000 * seconds / epochs / len(files) for side, seconds in spent.items()}
    size = sum(one.bytes for one in packed.values()) / sum(file.stat().st_size for file in files)
    row = {
        "data_set": name, "videos": len(files), "source_ms": round(ms["source"], 1),
        "pack_ms": round(ms["pack"], 1), "ratio": round(ms["source"] / ms["pack"], 1),
        "size": round(size, 1), "psnr": [one.psnr for one in packed.values()],
    }  # fmt: skip
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
