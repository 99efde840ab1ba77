"""Random streams named by what they are for.

Every random draw of the data path is a function of a key such as (seed, epoch, video), so that
nothing depends on how many workers or ranks there are, or on what was drawn before (SPEC 3).
"""

from __future__ import annotations

import hashlib

import numpy as np

Key = int | str


def draws(*key: Key) -> np.random.Generator:
    """The stream of random numbers that belongs to `key`: equal keys, equal streams.

    Keys of different kinds of draw should start with a word of their own, e.g. "crop".
    """
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
