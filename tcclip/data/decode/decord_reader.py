"""Reading as the published numbers were read (SPEC 3): with decord's seeking, its errors included.

One thread, so that files with hidden frames open and frames do not depend on timing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tcclip.data.decode.pixels import Frames
from tcclip.data.decode.pyav_reader import ChooseFrames, checked_indices
from tcclip.data.decode.video_file import DecodingError


def read_published(path: Path, choose: ChooseFrames) -> tuple[Frames, int]:
    """(chosen frames (T, H, W, 3), decord's number of frames, which is not always the file's).

    DecodingError, with decord's message, whatever decord raised; ValueError for an index that is
    not in the file, and without decord, which is built for few platforms.
    """
    if find_spec("decord") is None:
        raise ValueError("reader 'published' needs decord, which is not installed; use 'auto'")
    decord = import_module("decord")
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader: Any = decord.VideoReader(str(path), num_threads=1)
        wanted = checked_indices(choose, len(reader))
        return np.stack([_pixels(reader[index]) for index in wanted]), len(reader)
    except (RuntimeError, decord.DECORDError, IndexError) as error:  # unrelated types
        raise DecodingError(_cause(error)) from error


def _pixels(frame: Any) -> Frames:
    """(H, W, 3). decord takes the padding of narrow frames' rows for a fourth channel."""
    array: Frames = frame.asnumpy()
    height, width = array.shape[:2]
    return array.reshape(height, -1)[:, : width * 3].reshape(height, width, 3)


def _cause(error: Exception) -> str:
    """decord's message without its source line, address and stack trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = lines[0].rsplit("] ", 1)[-1]
    return message.split("Check failed: ", 1)[-1][:150]
