"""Whether matching can be done by Triton's kernels. Shapes as in the package."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

log = logging.getLogger(__name__)

#: Tokens (B, n, D) and how many of them each step merges -> where each went, (B, n).
Match = Callable[[Tensor, list[int]], Tensor]


def kernel_match(tokens: Tensor) -> Match | None:
    """The kernels that match on a GPU, up to float32; None where they cannot be used."""
    if not tokens.is_cuda or tokens.dtype == torch.float64:
        return None
    return _tried(tokens.device)


@cache
def _tried(device: torch.device) -> Match | None:
    """The kernels, if Triton is there, compiles them and they run; warns if they do not."""
    if find_spec("triton") is None:
        return None
    from triton import TritonError

    from tcclip.model.merging.operator import match

    try:
        match(torch.ones(1, 4, 16, device=device), [1])
    # Compilers that are missing or fail, GPUs that are too old or too small.
    except (TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        log.warning("slower, as Triton's kernels cannot be used for matching: %s", error)
        return None
    return match
