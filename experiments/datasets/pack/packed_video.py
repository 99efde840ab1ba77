"""Writing a packed video, and reading it back to see what the JPEG lost."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.datasets.pack.record import PackedFile
from protocols.datasets import Pack
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.images.packed_video import (
    COMMENT,
    MAX_FRAMES,
    NAME,
    kept_frames,
    read_packed,
)
from tcclip.data.decode.pixels import Frames
from tcclip.data.decode.reader import Clip, UnreadableVideo
from tcclip.data.decode.video_file import DecodingError
from tcclip.data.transforms import resize_short_side, to_video

#: Frames of the first read, when their size is not known yet, and bytes of each that follows: a
#: long video is read several times rather than held whole.
FIRST_FRAMES, READ_BYTES = 96, 2**28
#: Frames that are compared with what they were made of.
COMPARED = 16


def write_packed(
    decoder: Decoder, name: str, video: Path, path: Path, settings: Pack
) -> PackedFile:
    """Write `video`, whose list entry is `name`, to `path`, whatever is there.

    Its frames are resized as a run resizes them. Raises UnreadableVideo for a video that cannot be
    read or packed, OSError if the file cannot be written.
    """
    most = settings.frames
    originals: dict[int, Frames] = {}
    kept, compared, total, damaged = 0, set[int](), 0, 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for indices, clip in _clips(decoder, video, most):
            total, damaged = clip.total_frames, max(damaged, clip.damaged)
            compared = compared or _compared(total, most)
            small = resize_short_side(to_video(clip.frames), settings.short_side)
            pictures = small.permute(0, 2, 3, 1).contiguous().numpy()
            for index, picture in zip(indices, pictures, strict=True):
                file.writestr(zipfile.ZipInfo(NAME.format(index)), _jpeg(picture, settings.quality))
                kept += 1
                if index in compared:
                    originals[index] = picture.copy()
        file.comment = COMMENT.format(total).encode()
    content = path.read_bytes()
    error = _error(path, originals)
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    digest = hashlib.sha256(content).hexdigest()
    return PackedFile(name, total, kept, len(content), digest, damaged, round(psnr, 2))


def _clips(decoder: Decoder, video: Path, most: int | None) -> Iterator[tuple[list[int], Clip]]:
    """The kept frames, some at a time, with their indices."""
    done, number, total = 0, FIRST_FRAMES, None

    def choose(frames: int) -> list[int]:
        # A reader may ask for a guess of their number first, which may be lower.
        kept: list[int] = kept_frames(frames, most).tolist()
        return kept[done : done + number] or kept[-1:]

    while total is None or done < len(kept_frames(total, most)):
        clip = decoder.read(video, choose)
        if total not in (None, clip.total_frames):
            counts = f"{total} frames the first time, then {clip.total_frames}"
            raise UnreadableVideo(str(video), counts)
        total = clip.total_frames
        if most is None and total > MAX_FRAMES:
            raise UnreadableVideo(str(video), f"{total} frames are too many: give --frames")
        yield choose(total), clip
        done += number
        number = max(1, READ_BYTES // clip.frames[0].nbytes)


def _compared(total: int, most: int | None) -> set[int]:
    kept = kept_frames(total, most)
    return set(kept[kept_frames(len(kept), COMPARED)].tolist())


def _jpeg(picture: Frames, quality: int) -> bytes:
    """Chroma at half the resolution, as in nearly every video; Huffman codes of its own."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=quality, subsampling=2, optimize=True)
    return data.getvalue()


def _error(path: Path, originals: dict[int, Frames]) -> float:
    """The mean square of what the packed frames differ by from `originals`, in grey levels."""
    try:
        read, _ = read_packed(path, lambda total: list(originals))
    except DecodingError as error:
        raise UnreadableVideo(str(path), f"what was just written is {error}") from error
    before = np.stack(list(originals.values())).astype(np.int32)
    return float(np.mean((read - before) ** 2))
