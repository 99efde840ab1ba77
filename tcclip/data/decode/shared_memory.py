"""Memory that a decoding process and its client share, for the pixels."""

from __future__ import annotations

import math
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray


def unnamed_file() -> int:
    """A descriptor of a file without a name, in memory where the system supports that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedFrames:
    """One process's mapping of the file `descriptor`, which only grows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mapped: mmap.mmap | None = None

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Put `frames` where the other process reads them."""
        if os.fstat(self._descriptor).st_size < frames.nbytes:
            # Twice the need: clips differ in size, and mapping again costs more than memory.
            os.ftruncate(self._descriptor, 2 * frames.nbytes)
        self._view(frames.shape)[...] = frames

    def read(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A copy of the frames (T, H, W, 3) uint8 that the other process wrote."""
        return self._view(shape).copy()

    def _view(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        count = math.prod(shape)
        if self._mapped is None or len(self._mapped) < count:
            self._mapped = mmap.mmap(self._descriptor, 0)
        return np.frombuffer(self._mapped, np.uint8, count).reshape(shape)
