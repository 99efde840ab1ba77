"""Whether matching can be done by Triton's kernels. Shapes as in the package."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from tcclip.model.merging.bipartite import bipartite, merge_tables

log = logging.getLogger(__name__)

#: One program holds a row of the products of all pairs of tokens.
MOST_TOKENS = 4096


@dataclass(frozen=True)
class KernelMatch:
    """Bipartite matching by kernels. `run`: tokens (B, n, D) and `steps`, how many of them each
    step merges -> where each went, (B, n)."""

    run: Callable[[Tensor, list[int]], Tensor]
    steps: list[int]


def kernel_match(like: Tensor, n: int, steps: list[int]) -> KernelMatch | None:
    """The kernels for n tokens on the device and in the precision of `like`, up to float32; None
    where they cannot be used.

    To be called outside of what is compiled: tracing would try them on fake tensors.
    """
    if not like.is_cuda or like.dtype == torch.float64 or not steps or n > MOST_TOKENS:
        return None
    run = _tried(like.device)
    return None if run is None else KernelMatch(run, steps)


@cache
def _tried(device: torch.device) -> Callable[[Tensor, list[int]], Tensor] | None:
    """The kernels, if Triton is there, compiles them and they choose as the operators do in
    float64; warns if not."""
    if find_spec("triton") is None:
        return None
    try:
        from tcclip.model.merging.operator import match

        tokens = torch.randn(2, 208, 32, generator=torch.Generator().manual_seed(0))
        tables = merge_tables((2, 208), 24, 100, tokens.double())
        found = match(tokens.to(device), tables.steps).cpu()
        if not torch.equal(found, bipartite(tokens.double(), tables)):
            raise RuntimeError("they choose otherwise than PyTorch's operators")
    except torch.OutOfMemoryError:
        raise
    # Triton that cannot be imported, compilers that are missing or fail, GPUs that are too old or
    # too small: `match` makes RuntimeErrors of Triton's own.
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        log.warning("slower, as Triton's kernels cannot be used for matching: %s", error)
        return None
    return match
