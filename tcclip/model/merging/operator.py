"""The matching by kernels as an operator of PyTorch, which tracing and counting take as it is."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import TritonError

from tcclip.model.merging.kernels import matched


@torch.library.custom_op("tcclip::match", mutates_args=(), device_types="cuda")
def match(tokens: Tensor, steps: list[int]) -> Tensor:
    """Tokens (B, n, D) -> which of those that are left each went into, (B, n).

    `steps`: how many tokens each step merges, at least one step. RuntimeError if Triton fails.
    """
    try:
        with torch.cuda.device_of(tokens):  # Triton runs them on the current one
            return matched(tokens.contiguous(), steps)
    except TritonError as error:
        raise RuntimeError(f"Triton: {error}") from error


@match.register_fake
def _(tokens: Tensor, steps: list[int]) -> Tensor:
    return tokens.new_empty(tokens.shape[:2], dtype=torch.int64)
