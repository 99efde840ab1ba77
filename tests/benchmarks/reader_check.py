"""A folder of videos, as the product reads them, against the ffmpeg program's forward decode.

    python -m tests.benchmarks.reader_check FOLDER [--make]

Every file below FOLDER is read by "auto" and "pyav" ("published" keeps decord's wrong frames by
definition) for several draws: 8, 16 and 32 frames by the evaluation's rule and twice by training's.
A line for each disagreement, a count at the end; exit 1 if there is one. `--make` first writes a
file of every codec, container and oddity there (tests/made_videos.py). Without the ffmpeg program,
PyAV's forward decode is the reference.

Pixels must be equal, with two exceptions. FFmpeg's versions round XviD's inverse transform
differently, by up to 2 of 255. Each version conceals damaged frames differently: there the number
of frames is compared with ffmpeg's, the pixels with those of PyAV's forward decode.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tcclip.config import Reader, Views
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.sampling import train_indices, view_indices
from tcclip.data.seeding import seeded_rng
from tests.made_videos import make_videos

READERS: tuple[Reader, ...] = ("auto", "pyav")
ROUNDING = 2
Frames = NDArray[np.uint8]


@dataclass
class Reference:
    """What ffmpeg shows: the number of frames, and those that were asked for."""

    total: int
    frames: dict[int, Frames]


def draws(total: int) -> Iterator[tuple[str, list[int]]]:
    """Frame indices as evaluation and training choose them, each with a name."""
    for number in (8, 16, 32):
        yield f"eval {number}", view_indices(total, number, Views(), 0, "a").flatten().tolist()
        for seed in (0, 1):
            rng = seeded_rng("frames", seed, 0, "a")
            yield f"train {number}/{seed}", list(map(int, train_indices(total, number, rng)))


def by_ffmpeg(path: Path, wanted: Sequence[int]) -> Reference:
    """The frames of ffmpeg's own stream, upright, in its own colours."""
    command = [
        "ffmpeg", "-v", "error", "-i", str(path.absolute()), "-an", "-sn", "-dn",
        "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-",
    ]  # fmt: skip
    keep, found, total = set(wanted), {}, 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        while (frame := _picture(process.stdout)) is not None:
            if total in keep:
                found[total] = frame
            total += 1
    return Reference(total, found)


def _picture(pipe: IO[bytes]) -> Frames | None:
    """The next picture, in the format ppm; None at the end."""
    if pipe.readline() != b"P6\n":
        return None
    width, height = map(int, pipe.readline().split())
    pipe.readline()
    return np.frombuffer(pipe.read(width * height * 3), np.uint8).reshape(height, width, 3)


def by_pyav(decoder: Decoder, path: Path, wanted: Sequence[int]) -> Reference:
    """The same from PyAV's forward decode, for machines without ffmpeg."""
    try:
        clip = decoder.read(path, lambda _: wanted or [0])
    except UnreadableVideo:
        return Reference(0, {})
    return Reference(clip.total_frames, dict(zip(wanted, clip.frames, strict=False)))


def disagreements(path: Path, decoders: dict[Reader, Decoder], *, ffmpeg: bool) -> Iterator[str]:
    """What is wrong with `path`: reader, draw and difference."""
    try:
        first = decoders["pyav"].read(path, lambda total: [0])
    except UnreadableVideo as error:
        total = by_ffmpeg(path, ()).total if ffmpeg else 0
        if total:
            yield f"pyav: {error.cause}; the reference shows {total} frames"
        return
    wanted = sorted({index for _, indices in draws(first.total_frames) for index in indices})
    shown = by_ffmpeg(path, wanted) if ffmpeg else by_pyav(decoders["pyav"], path, wanted)
    if shown.total != first.total_frames:
        yield f"pyav: {first.total_frames} frames; the reference shows {shown.total}"
        return
    if first.damaged:
        shown = by_pyav(decoders["pyav"], path, wanted)
    for mode, decoder in decoders.items():
        for name, indices in draws(shown.total):
            try:
                clip = decoder.read(path, lambda total, indices=indices: indices)
            except UnreadableVideo as error:
                yield f"{mode}, {name}: {error.cause}"
                break
            expected = np.stack([shown.frames[index] for index in indices])
            if cause := _difference(clip.frames, expected):
                yield f"{mode}, {name}: {cause}"
            if (total := clip.total_frames) != shown.total:
                yield f"{mode}, {name}: {total} frames; the reference shows {shown.total}"


def _difference(ours: Frames, expected: Frames) -> str:
    if ours.shape != expected.shape:
        return f"frames of {ours.shape[1:3]}; the reference shows {expected.shape[1:3]}"
    gaps = np.abs(ours.astype(np.int16) - expected)
    if gaps.max() <= ROUNDING:
        return ""
    worst = 10 * np.log10(255**2 / (gaps.astype(np.float64) ** 2).mean((1, 2, 3)).max())
    return f"differs by up to {gaps.max()} of 255, {worst:.1f} dB in the worst frame"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true", help="first write videos of every kind")
    options = parser.parse_args()
    if options.make:
        for missing in make_videos(options.folder):
            print(f"not made: {missing}")
    ffmpeg = which("ffmpeg") is not None
    print("against", "the ffmpeg program" if ffmpeg else "PyAV's forward decode (no ffmpeg found)")
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())
    wrong = 0
    decoders = {mode: Decoder(mode) for mode in READERS}
    with closing(decoders["auto"]), closing(decoders["pyav"]):
        for path in files:
            for line in disagreements(path, decoders, ffmpeg=ffmpeg):
                print(f"{path.relative_to(options.folder)}: {line}", flush=True)
                wrong += 1
    print(f"{len(files)} files, {len(READERS)} readers: {wrong} disagreements")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
