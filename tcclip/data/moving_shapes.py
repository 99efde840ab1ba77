"""The embedded data set: coloured shapes that move, as real H.264 files.

Made once into a cache folder, from a fixed seed. 96 classes = 6 colours x 4 shapes x 4 motions,
e.g. "red circle bouncing up and down". Half of the combinations are seen in training, chosen so
that every pair of attribute values is seen equally often; the other half is split into three
lists of 16. No two classes differ by temporal order alone (SPEC 9): every motion looks the same
backwards in time, and mirrored.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tcclip.data.seeding import seeded_rng
from tcclip.data.shape_video import MOTIONS, PALETTE, SHAPES, render_clip, write_video

#: Raise it when the videos or lists change: folders of an older version are built again.
VERSION = 2
SEED = 20240410
COLOURS = tuple(PALETTE)
TRAIN_CLIPS, VAL_CLIPS, UNSEEN_CLIPS = 8, 2, 4
SHOTS = (2, 4, 8)
#: Built at a lower priority: Ray and the workers that start meanwhile are waited for.
_START = (
    "import os, sys, pathlib; os.nice(5); sys.path.insert(0, sys.argv[1]); "
    "from tcclip.data.moving_shapes import ensure_built; "
    "ensure_built(pathlib.Path(sys.argv[2]))"
)
BASE_SPLITS, BASE_CLIPS = 3, 6


@dataclass(frozen=True)
class ShapeClass:
    """One class, as indices into COLOURS, SHAPES and MOTIONS."""

    colour: int
    shape: int
    motion: int

    @property
    def name(self) -> str:
        """The class name, e.g. "red circle bouncing up and down"."""
        return f"{COLOURS[self.colour]} {SHAPES[self.shape]} {MOTIONS[self.motion]}"

    def clip(self, number: int) -> str:
        """Path of the class's clip `number`, relative to the video folder."""
        return f"{self.name.replace(' ', '_')}_{number:02d}.mp4"


def seen_classes() -> list[ShapeClass]:
    """The 48 classes of training: every pair of attribute values equally often."""
    return [one for one in _all_classes() if (one.colour + one.shape + one.motion) % 2 == 0]


def unseen_classes(part: int | None = None) -> list[ShapeClass]:
    """The 48 classes never trained on, or the 16 of list `part` (1 to 3).

    A list holds each pair of shape and motion once, and each colour two or three times.
    """
    unseen = [one for one in _all_classes() if (one.colour + one.shape + one.motion) % 2 == 1]
    parts = [1 + (one.colour // 2 + one.shape * 2 + one.motion // 2) % 3 for one in unseen]
    return [one for one, own in zip(unseen, parts, strict=True) if part in (None, own)]


def _all_classes() -> list[ShapeClass]:
    indices = product(range(len(COLOURS)), range(len(SHAPES)), range(len(MOTIONS)))
    return [ShapeClass(*one) for one in indices]


def ensure_built(folder: Path) -> Path:
    """Build the data set in `folder` unless it is there already; returns the folder.

    Holds videos/*.mp4, splits/*.txt, labels/*.csv and, written last, manifest.json. Simultaneous
    callers wait for the first one to build it.
    """
    folder = folder.absolute()
    if not is_complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_complete(folder):
                _build(folder)
    return folder


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Another process builds the data set in `folder` while the block does something else.

    Who needs it calls `ensure_built` all the same, which waits for it, or builds it if that process
    could not. At the block's end it is ended.
    """
    if is_complete(folder):
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[2]), str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        process_group=0,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def is_complete(folder: Path) -> bool:
    """Whether all of this version was written into `folder`."""
    try:
        version: object = json.loads((folder / "manifest.json").read_text())["version"]
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return version == VERSION


def _build(folder: Path) -> None:
    """Build the data set in place of what an older version or a killed process left."""
    if folder.exists():
        shutil.rmtree(folder)
    for name in ("videos", "splits", "labels"):
        (folder / name).mkdir(parents=True)
    _write_videos(folder / "videos")
    _write_lists(folder)
    (folder / "manifest.json").write_text(json.dumps({"version": VERSION, "seed": SEED}) + "\n")


def _write_videos(videos: Path) -> None:
    counts = [(one, TRAIN_CLIPS + VAL_CLIPS) for one in seen_classes()]
    counts += [(one, UNSEEN_CLIPS) for one in unseen_classes()]

    def write(one: ShapeClass, number: int) -> None:
        name = one.clip(number)
        rng = seeded_rng("moving shapes", SEED, name)
        colour, shape, motion = COLOURS[one.colour], SHAPES[one.shape], MOTIONS[one.motion]
        write_video(videos / name, render_clip(colour, shape, motion, rng))

    # Encoding takes most of the time, and runs side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = [pool.submit(write, one, at) for one, count in counts for at in range(count)]
    for video in made:
        video.result()  # raises what went wrong


def _write_lists(folder: Path) -> None:
    """Splits and label files, as `protocols.datasets.MOVING_SHAPES` names them."""
    train, val = range(TRAIN_CLIPS), range(TRAIN_CLIPS, TRAIN_CLIPS + VAL_CLIPS)
    test = range(UNSEEN_CLIPS)
    seen, unseen = seen_classes(), unseen_classes()
    _write_split(folder, "train", seen, [train] * len(seen))
    for name in ("val", "base_val"):
        _write_split(folder, name, seen, [val] * len(seen))
    for shots in SHOTS:
        _write_split(folder, f"train_{shots}shot", seen, [train[:shots]] * len(seen))
    for split in range(1, BASE_SPLITS + 1):
        rngs = [seeded_rng("base split", SEED, split, one.name) for one in seen]
        picks = [sorted(rng.permutation(TRAIN_CLIPS)[:BASE_CLIPS]) for rng in rngs]
        _write_split(folder, f"base_s{split}", seen, picks)
    _write_split(folder, "novel_val", unseen, [test] * len(unseen))
    _write_labels(folder, "seen", seen)
    _write_labels(folder, "unseen", unseen)
    for part in (1, 2, 3):
        classes = unseen_classes(part)
        _write_split(folder, f"unseen{part}", classes, [test] * len(classes))
        _write_labels(folder, f"unseen{part}", classes)


def _write_split(
    folder: Path, name: str, classes: Sequence[ShapeClass], clips: Sequence[Sequence[int]]
) -> None:
    lines = [
        f"{one.clip(number)} {label}\n"
        for label, (one, numbers) in enumerate(zip(classes, clips, strict=True))
        for number in numbers
    ]
    (folder / "splits" / f"{name}.txt").write_text("".join(lines))


def _write_labels(folder: Path, name: str, classes: Sequence[ShapeClass]) -> None:
    lines = ["id,name\n", *(f"{label},{one.name}\n" for label, one in enumerate(classes))]
    (folder / "labels" / f"{name}.csv").write_text("".join(lines))
