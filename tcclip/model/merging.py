"""From seed tokens to context tokens: bipartite soft matching and its ablations (SPEC 2.1, step 4).

Shape legend: B videos, n seed tokens of a video (all frames in a row), k context tokens, D width.

Every method computes, without gradient, which context token each seed goes into: an assignment
(B, n) of int64 in [0, k), or -1 for a dropped seed. A context token is the mean of its seeds,
which equals the step-by-step weighted mean of the published method; gradients reach the seeds
through this mean alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tcclip.config import Aggregation
from tcclip.model.layers import full_precision, no_autocast

KMEANS_ITERATIONS = 10
DENSITY_NEIGHBOURS = 5


def aggregate(
    seeds: Tensor, k: int, *, method: Aggregation, step: int, layer: int
) -> tuple[Tensor, Tensor]:
    """Seeds (B, n, D) -> context tokens (B, k, D) and the assignment (B, n).

    With method "none" every seed is a context token and k is n. `layer` varies the random draw.
    """
    B, n, _ = seeds.shape
    if method == "none":
        return seeds, torch.arange(n, device=seeds.device).expand(B, n)
    with no_autocast(seeds):
        tokens = full_precision(seeds)
        with torch.no_grad():
            assignment = _assign(tokens, k, method, step, layer)
        return cluster_means(tokens, assignment, k), assignment


def _assign(tokens: Tensor, k: int, method: Aggregation, step: int, layer: int) -> Tensor:
    if method == "bipartite":
        return bipartite(tokens, k, step)
    if method == "kmeans":
        return kmeans(tokens, k)
    if method == "dpc_knn":
        return density_peaks(tokens, k)
    return random_choice(tokens, k, layer)


def cluster_means(tokens: Tensor, assignment: Tensor, k: int) -> Tensor:
    """Mean of the tokens (B, n, D) of each cluster -> (B, k, D); zeros for an empty cluster.

    A product with the one-hot assignment: unlike a scatter it is deterministic on every device.
    """
    member = membership(assignment, k).to(tokens.dtype)
    return (member / member.sum(-1, keepdim=True).clamp(min=1)) @ tokens


def membership(assignment: Tensor, k: int) -> Tensor:
    """(B, n) -> boolean (B, k, n): does seed n belong to cluster k?"""
    return assignment.unsqueeze(1) == torch.arange(k, device=assignment.device).unsqueeze(1)


# ---- Bipartite soft matching (ToMe), the method's own ----


def merge_steps(n: int, k: int, step: int) -> list[int]:
    """How many tokens each step removes from n to k."""
    steps = []
    while n > k:
        steps.append(min(step, n - k, n // 2))
        n -= steps[-1]
    return steps


def bipartite(tokens: Tensor, k: int, step: int) -> Tensor:
    """Assignment by repeated matching of even with odd positions.

    Sums are kept instead of weighted means: the cosine of two sums is that of the two means.
    """
    B, n, _ = tokens.shape
    clusters = torch.arange(n, device=tokens.device).expand(B, n)
    sums = tokens
    for r in merge_steps(n, k, step):
        sums, destination = _merge_step(sums, r)
        clusters = destination.gather(1, clusters)
    return clusters


def _merge_step(sums: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Remove r tokens. (B, m, D) -> (B, m - r, D), and the new index of each token (B, m)."""
    B, m, D = sums.shape
    a, b = sums[:, ::2], sums[:, 1::2]
    unit = F.normalize(sums, dim=-1)
    similarity, partner = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(-1)
    order = similarity.argsort(dim=-1, descending=True, stable=True)
    merged, kept = order[:, :r], order[:, r:]
    target = partner.gather(1, merged)

    absorbed = membership(target, b.shape[1]).to(sums.dtype) @ _take(a, merged)
    result = torch.cat([_take(a, kept), b + absorbed], dim=1)

    a_to = torch.empty_like(order).scatter(1, merged, kept.shape[1] + target)
    rank = torch.arange(kept.shape[1], device=sums.device).expand_as(kept)
    a_to = a_to.scatter(1, kept, rank)
    b_to = torch.arange(kept.shape[1], m - r, device=sums.device).expand(B, -1)
    # Interleave again: a came from even positions, b from odd ones.
    destination = torch.empty(B, m, dtype=order.dtype, device=sums.device)
    even = torch.arange(0, m, 2, device=sums.device).expand(B, -1)
    odd = torch.arange(1, m, 2, device=sums.device).expand(B, -1)
    return result, destination.scatter(1, even, a_to).scatter(1, odd, b_to)


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, n, D) at index (B, j) -> (B, j, D)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


# ---- Ablations ----


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
    ids = torch.arange(k, device=tokens.device).expand(B, k)
    with_centres: Tensor = assignment.scatter(1, centres, ids)
    return with_centres
