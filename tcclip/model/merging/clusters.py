"""Which tokens a cluster has, and their mean. Shapes as in the package."""

from __future__ import annotations

import torch
from torch import Tensor

from tcclip.model.layers import full_precision, no_autocast


def cluster_means(tokens: Tensor, assignment: Tensor, k: int) -> Tensor:
    """Mean of the tokens (B, n, D) of each cluster -> (B, k, D), at least float32; zeros for an
    empty cluster.

    A product with the one-hot assignment: unlike a scatter it is deterministic on every device.
    """
    with no_autocast(tokens):
        tokens = full_precision(tokens)
        member = membership(assignment, k).to(tokens.dtype)
        return torch.bmm(member / member.sum(-1, keepdim=True).clamp(min=1), tokens)


def membership(assignment: Tensor, k: int) -> Tensor:
    """(B, n) -> boolean (B, k, n): does seed n belong to cluster k?"""
    return assignment.unsqueeze(1) == torch.arange(k, device=assignment.device).unsqueeze(1)


def places(index: Tensor, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Which of the numbers `first`, `first` + 1, ... stand in `index` (..., j), whose numbers are
    distinct, and at what place: two tensors (..., count)."""
    numbers = torch.arange(first, first + count, device=index.device).unsqueeze(1)
    found, place = (index.unsqueeze(-2) == numbers).max(-1)
    return found, place
