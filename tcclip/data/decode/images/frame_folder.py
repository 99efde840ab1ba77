"""A video that is stored as a folder of images, a frame each: `img_00001.jpg`, `img_00002.jpg`."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from tcclip.data.decode.pixels import Frames
from tcclip.data.decode.pyav_reader import ChooseFrames, checked_indices
from tcclip.data.decode.video_file import DecodingError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
#: Of several kinds of images in a folder, e.g. frames and optical flow, these are the frames.
FRAME_NAMES = ("img_", "image_", "frame_", "frame", "img", "image", "")


def read_frame_folder(folder: Path, choose: ChooseFrames) -> tuple[Frames, int]:
    """(chosen frames (T, H, W, 3) RGB uint8, all of the first frame's size; frames in the folder).

    DecodingError if there are none or one of those chosen cannot be read; ValueError for an index
    that is not there.
    """
    files = frame_files(folder)
    wanted = checked_indices(choose, len(files))
    # The first frame is opened first: all others take its size.
    size = _read(files[0], None).shape[:2]
    found = {index: _read(files[index], size) for index in set(wanted)}
    return np.stack([found[index] for index in wanted]), len(files)


def frame_files(folder: Path) -> list[Path]:
    """A folder's frames by their number, so that 10 comes after 9; other files are not looked at.

    DecodingError if it holds several kinds of images, and none of a usual name for frames; if the
    frames have several endings or one number twice, e.g. frames and masks: 1.jpg, 1.png.
    """
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for entry in folder.iterdir():
        match = re.fullmatch(r"(.*?)(\d+)", entry.stem)
        if match and entry.suffix.lower() in FRAME_SUFFIXES and not entry.name.startswith("."):
            kinds[match[1]].append((int(match[2]), entry.name))
    if len(kinds) == 1:
        (frames,) = kinds.values()
    else:
        usual = [kind for kind in FRAME_NAMES if kind in kinds]
        if not usual:
            names = ", ".join(f"{kind}1" for kind in sorted(kinds)) or "no image with a number"
            raise DecodingError(f"the folder's frames cannot be told by their names: {names}")
        frames = kinds[usual[0]]
    frames.sort()
    endings = {Path(name).suffix.lower().replace(".jpeg", ".jpg") for _, name in frames}
    if len(endings) > 1:
        raise DecodingError(
            f"the folder's frames end in {' and in '.join(sorted(endings))}: keep one kind in it"
        )
    for (number, name), (following, other) in pairwise(frames):
        if number == following:
            raise DecodingError(f"{name} and {other} have one number: keep one of them")
    return [folder / name for _, name in frames]


def _read(path: Path, size: tuple[int, ...] | None) -> Frames:
    """(H, W, 3) uint8, resized to `size` (H, W) if it has another one."""
    if not path.is_file():  # a pipe would block
        raise DecodingError(f"{path.name} is no file")
    try:
        with Image.open(path) as image:
            rgb = _eight_bits(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DecodingError(f"{path.name} cannot be read: {error}") from error
    if size is not None and (rgb.height, rgb.width) != size:
        rgb = rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(rgb, np.uint8)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey levels of 16 bits scaled to 8, where Pillow's conversion makes all above 255 white."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
