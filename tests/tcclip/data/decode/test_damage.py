"""Damaged copies through the loader: no crash, nothing hangs, every video counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcclip.config import AugmentConfig, Views
from tcclip.data.annotations import Item, read_list
from tcclip.data.clips import EvalClips
from tcclip.data.decode.decoder import Decoder
from tcclip.data.loader import EvalLoader
from tcclip.data.loader_pool import LoaderPool
from tcclip.data.seeding import seeded_rng

#: Small real clips of every kind of stream; the embedded ones are added to them.
REAL = (
    "datumaro_video.avi", "decord_rot_90.mov", "decord_unordered.mov", "exo_vp9_odd_dims.webm",
    "hmdb51_wave_RATRACE_37.avi", "hmdb51_wave_SchoolRules_0.avi", "imageio_realshort.mp4",
    "k400_R6llTwEh07w.mp4", "ssv2_166766_poking_falls_over.mp4", "ssv2_121896_with_masks.webm",
    "tc_av1_video.mkv", "tc_h265_10bits.mp4", "ucf101_Basketball_g01_c01.avi",
    "clipvideoencode_vid1.mp4", "exo_fragmented.mp4",
)  # fmt: skip


def _damaged(content: bytes, number: int) -> bytes:
    """One of four kinds of damage: cut, flipped bytes, zeroed header, a hole."""
    rng, hurt = seeded_rng("damage", number), bytearray(content)
    size = len(hurt)
    if number % 4 == 0:
        return bytes(hurt[: int(rng.integers(0, size))])
    if number % 4 == 1:
        for place in rng.integers(0, size, int(rng.integers(1, 60))):
            hurt[int(place)] ^= int(rng.integers(1, 256))
    elif number % 4 == 2:
        start = int(rng.integers(0, 64))
        hurt[start : start + int(rng.integers(1, 600))] = bytes(int(rng.integers(1, 600)))
    else:
        start = int(rng.integers(0, size))
        end = min(size, start + int(rng.integers(1, size // 3 + 2)))
        hurt[start:end] = bytes(end - start)
    return bytes(hurt)


def _run(sources: list[Path], folder: Path, copies: int, workers: int) -> tuple[int, int]:
    items = []
    for number in range(copies):
        source = sources[number % len(sources)]
        name = f"{number}{source.suffix}"
        (folder / name).write_bytes(_damaged(source.read_bytes(), number))
        items.append(Item(name, 0))
    clips = EvalClips(
        items, folder.joinpath, num_frames=8, augment=AugmentConfig(resize=64, crop=56),
        views=Views(), seed=0, decoder=Decoder(timeout=20),
    )  # fmt: skip
    read: list[int] = []
    unreadable: dict[int, str] = {}
    for batch in EvalLoader(clips, batch=4, pool=LoaderPool(workers)):
        read += batch.indices.tolist()
        unreadable |= batch.unreadable
    assert sorted([*read, *unreadable]) == list(range(copies))
    assert all(unreadable.values())
    return len(read), len(unreadable)


def test_damaged_copies(shapes: Path, tmp_path: Path) -> None:
    items = read_list(shapes / "splits" / "val.txt")
    sources = [shapes / "videos" / item.path for item in items[::16]]
    read, unreadable = _run(sources, tmp_path, copies=60, workers=2)
    assert read > 10
    assert unreadable > 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_five_hundred_damaged_copies_of_real_clips(real_clips: Path, tmp_path: Path) -> None:
    read, unreadable = _run([real_clips / name for name in REAL], tmp_path, 500, workers=4)
    assert read > 100
    assert unreadable > 50
    print(f"500 damaged copies: {read} read, {unreadable} unreadable")
