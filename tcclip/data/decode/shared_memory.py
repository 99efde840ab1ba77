"""Memory that two processes share, for pixels."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

#: Bytes; enough for any element type.
ALIGNMENT = 64


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

    def write(self, *arrays: NDArray[np.uint8]) -> None:
        """Put `arrays` where the other process reads them."""
        starts = _starts([one.nbytes for one in arrays])
        if os.fstat(self._descriptor).st_size < starts[-1]:
            # Twice the need: clips differ in size, and mapping again costs more than memory.
            os.ftruncate(self._descriptor, 2 * starts[-1])
        for start, one in zip(starts, arrays, strict=False):
            self.view(one.shape, start)[...] = one

    def views(self, sizes: Sequence[int]) -> list[NDArray[np.uint8]]:
        """The arrays of `sizes` bytes that the other process wrote, until it writes again."""
        starts = _starts(sizes)
        return [self.view((size,), start) for size, start in zip(sizes, starts, strict=False)]

    def view(self, shape: tuple[int, ...], start: int = 0) -> NDArray[np.uint8]:
        """The bytes from `start` on, as an array that is not copied."""
        count = math.prod(shape)
        if not count:
            return np.empty(shape, np.uint8)
        if self._mapped is None or len(self._mapped) < start + count:
            self._mapped = mmap.mmap(self._descriptor, 0)
        return np.frombuffer(self._mapped, np.uint8, count, start).reshape(shape)


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where arrays of so many bytes begin, one after the other, and the end of the last."""
    return [0, *accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)]
