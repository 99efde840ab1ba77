"""Reading as the published numbers were read (SPEC 3): with decord's seeking, its errors included.

One thread, so that files with hidden frames open and frames do not depend on timing.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tcclip.data.decode.pixels import Frames
from tcclip.data.decode.video_file import DecodingError


def decord_installed() -> bool:
    """Whether decord is installed: it is built for few platforms."""
    return importlib.util.find_spec("decord") is not None


class DecordReader:
    """An open file. Raises DecodingError, with decord's message, whatever decord raised."""

    def __init__(self, path: Path) -> None:
        decord = importlib.import_module("decord")
        decord.logging.set_level(decord.logging.QUIET)
        # Two unrelated types, as decord raises them.
        self._errors = (RuntimeError, decord.DECORDError)
        try:
            self._reader: Any = decord.VideoReader(str(path), num_threads=1)
        except self._errors as error:
            raise DecodingError(_cause(error)) from error

    def __len__(self) -> int:
        """decord's number of frames: not always the file's."""
        return len(self._reader)

    def seek(self, indices: Sequence[int]) -> Frames:
        """(T, H, W, 3) frames, one index at a time, as the published numbers were read."""
        try:
            return np.stack([_pixels(self._reader[int(index)]) for index in indices])
        except (*self._errors, IndexError) as error:
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
