"""Random numbers that depend on no count of workers or ranks, nor on earlier draws (SPEC 3)."""

from __future__ import annotations

import hashlib

import numpy as np


def seeded_rng(*key: int | str) -> np.random.Generator:
    """The generator of `key`, such as ("frames", seed, epoch, video): equal keys, equal numbers."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
