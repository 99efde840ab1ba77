"""What matching is compared with: random seeds, k-means, density peaks. Shapes: see the package."""

from __future__ import annotations

import torch
from torch import Tensor

from tcclip.model.merging.clusters import cluster_means, membership, places

KMEANS_ITERATIONS = 10
DENSITY_NEIGHBOURS = 5


def random_choice(tokens: Tensor, k: int, layer: int) -> Tensor:
    """k seeds at random become the context tokens, the others are dropped.

    The draw is a function of (layer, position) alone: the same for every video, batch and device.
    """
    B, n, _ = tokens.shape
    x = torch.arange(n, device=tokens.device) + 7919 * (layer + 1)
    for _ in range(3):  # a multiply-and-shift integer hash
        x = (((x >> 7) ^ x) * 73244475) & 0x7FFFFFFF
    rank = x.argsort(stable=True).argsort()
    return torch.where(rank < k, rank, -1).expand(B, n)


def kmeans(tokens: Tensor, k: int) -> Tensor:
    """Lloyd's k-means on the tokens, started from evenly spaced seeds, a fixed number of rounds."""
    B, n, _ = tokens.shape
    start = torch.arange(k, device=tokens.device) * n // k
    centres = tokens[:, start]
    for _ in range(KMEANS_ITERATIONS):
        assignment = torch.cdist(tokens, centres).argmin(-1)
        empty = ~membership(assignment, k).any(-1, keepdim=True)
        centres = torch.where(empty, centres, cluster_means(tokens, assignment, k))
    return torch.cdist(tokens, centres).argmin(-1)


def density_peaks(tokens: Tensor, k: int) -> Tensor:
    """DPC-KNN: centres are dense tokens far from any denser one; others join the nearest centre."""
    B, n, D = tokens.shape
    distance = torch.cdist(tokens, tokens) / D**0.5
    nearest = distance.topk(min(DENSITY_NEIGHBOURS, n), largest=False).values
    density = (-nearest.square().mean(-1)).exp()
    denser = density.unsqueeze(1) > density.unsqueeze(2)
    farthest = distance.amax((1, 2), keepdim=True)
    separation = distance.where(denser, farthest).amin(-1)
    centres = (density * separation).argsort(dim=-1, descending=True, stable=True)[:, :k]
    assignment = distance.gather(2, centres.unsqueeze(1).expand(-1, n, -1)).argmin(-1)
    is_centre, rank = places(centres, n)
    return torch.where(is_centre, rank, assignment)
