"""Random number generators seeded by what they are for.

Every random draw of the data path is a function of a key such as (seed, epoch, video), so that
nothing depends on how many workers or ranks there are, or on what was drawn before (SPEC 3).
"""

from __future__ import annotations

import hashlib

import numpy as np


def seeded_rng(*key: int | str) -> np.random.Generator:
    """The random number generator of `key`: equal keys give equal numbers.

    Start the key with a word for what is drawn, e.g. "crop".
    """
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
