"""A test video's views decoded against taken from the cache, and a training clip, in one run.

    python -m tests.benchmarks.cache_bench FOLDER_OF_VIDEOS [--match k400] [--times 5]

Processor milliseconds of this process and of the decoding process, two views of 16 frames at the
published sizes. Cold: decoded, cropped and put into the cache. The first training clip of a video
decodes all its frames. The ratio is what counts. Not a test: nothing is asserted on time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from tcclip.config import AugmentConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.cache.store import Store
from tcclip.data.clips import EvalClips, TrainClips, TrainKey
from tcclip.data.decode.decoder import Decoder
from tcclip.data.loader import load_train

FRAMES = 16


def _milliseconds(clips: EvalClips | TrainClips, use: Callable[[], object]) -> float:
    """Of processor time, with that of the decoding process, which has to end for it."""

    def used() -> float:
        clips.decoder.close()
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(one.ru_utime + one.ru_stime for one in map(resource.getrusage, who))

    clips.decoder.close()
    before = used()
    use()
    return 1e3 * (used() - before)


def _measure(file: Path, times: int) -> dict[str, float]:
    items = [Item(file.name, 0)]
    settings = {"num_frames": FRAMES, "augment": AugmentConfig(), "seed": 0, "decoder": Decoder()}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), 10**10)
        test = [
            EvalClips(items, file.parent.joinpath, views=Views(clips=2), store=one, **settings)  # type: ignore[arg-type]
            for one in (None, store)
        ]
        train = [
            TrainClips(items, file.parent.joinpath, store=one, **settings)  # type: ignore[arg-type]
            for one in (None, store)
        ]
        # Starting the decoding process, about 0.1 s, is measured apart and taken off.
        start = statistics.median(
            _milliseconds(test[0], test[0].decoder._own_process) for _ in range(times)
        )

        def views(number: int) -> float:
            return _milliseconds(test[number], lambda: [test[number][0] for _ in range(times)])

        def clips(number: int) -> float:
            keys = [TrainKey(epoch, 0, 0) for epoch in range(times)]
            return _milliseconds(
                train[number], lambda: [load_train(train[number], [key]) for key in keys]
            )

        decoded = (views(0) - start) / times
        cold = _milliseconds(test[1], lambda: test[1][0]) - start
        warm = views(1) / times
        trained = (clips(0) - start) / times
        first = _milliseconds(train[1], lambda: load_train(train[1], [TrainKey(0, 0, 0)])) - start
        return {
            "test": decoded, "test_cold": cold, "test_warm": warm, "test_ratio": decoded / warm,
            "train": trained, "train_first": first, "train_warm": clips(1) / times,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--match", default="", help="only files whose name starts so")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for file in sorted(options.folder.iterdir()):
        if file.name.startswith(options.match):
            found = {name: round(value, 1) for name, value in _measure(file, options.times).items()}
            print(json.dumps({"video": file.name, **found}), flush=True)


if __name__ == "__main__":
    main()
