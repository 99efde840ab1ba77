"""Memory that a decoding process and its client share, for the pixels."""

from __future__ import annotations

import math
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray


def anonymous_file() -> int:
    """A descriptor of a file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Exchange:
    """One side's view of the file `descriptor`. It only grows, and is mapped anew only then."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mapped: mmap.mmap | None = None

    def put(self, frames: NDArray[np.uint8]) -> None:
        """Write `frames` for the other side."""
        size = os.fstat(self._descriptor).st_size
        if size < frames.nbytes:
            # Twice the need: clips differ in size, and mapping costs more than memory.
            os.ftruncate(self._descriptor, 2 * frames.nbytes)
        self._view(frames.shape)[...] = frames

    def get(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A copy of what the other side has put, (T, H, W, 3) uint8."""
        return self._view(shape).copy()

    def _view(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        count = math.prod(shape)
        if self._mapped is None or len(self._mapped) < count:
            self._mapped = mmap.mmap(self._descriptor, 0)
        return np.frombuffer(self._mapped, np.uint8, count).reshape(shape)
