"""Small pictures of videos, for a page: three frames side by side."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.datasets.paths import DataPaths
from experiments.errors import MissingData
from experiments.store.files import write_whole

if TYPE_CHECKING:
    from tcclip.data.decode.decoder import Decoder

#: Frames of a video, from its first sixth to its last, and their height in pixels.
FRAMES, HEIGHT = 3, 72
#: Seconds that a video may take.
TIMEOUT = 20.0


def thumbnails(dataset: str, videos: Sequence[str]) -> dict[str, tuple[Path, bytes]]:
    """Listed video -> its file, and a JPEG of its frames, for those that can be found and read.

    Made once: kept beside the cached frames. Folders are those of environment and configuration.
    """
    from tcclip.data.decode.decoder import Decoder
    from tcclip.data.decode.reader import UnreadableVideo

    paths = DataPaths.find()
    try:
        found = paths.find_videos(dataset, videos)
    except MissingData:  # no folder, or a data set that is not known here
        return {}
    made = {}
    with closing(Decoder("auto", TIMEOUT)) as decoder:
        for video in videos:
            if video in found.files:
                path = found.locate(video)
                try:
                    made[video] = path, _kept(decoder, path, paths.cache / "thumbnails")
                except UnreadableVideo:
                    continue  # the page counts those without one
    return made


def _kept(decoder: Decoder, path: Path, folder: Path) -> bytes:
    """The JPEG of a file, from the cache where it is there."""
    about = path.stat()
    key = f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0{FRAMES}\0{HEIGHT}"
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.jpg"
    if not file.is_file():
        jpeg = _jpeg(decoder, path)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, lambda aside: aside.write_bytes(jpeg))
    return file.read_bytes()


def _jpeg(decoder: Decoder, path: Path) -> bytes:
    from PIL import Image

    from tcclip.data.sampling import segment_indices

    frames = decoder.read(path, lambda total: segment_indices(total, FRAMES)).frames
    width = max(1, round(HEIGHT * frames.shape[2] / frames.shape[1]))
    strip = Image.new("RGB", (FRAMES * width, HEIGHT))
    for number, frame in enumerate(frames):
        small = Image.fromarray(frame).resize((width, HEIGHT), Image.Resampling.LANCZOS)
        strip.paste(small, (number * width, 0))
    out = io.BytesIO()
    strip.save(out, "JPEG", quality=70)
    return out.getvalue()
