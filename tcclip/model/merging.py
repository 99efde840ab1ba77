"""From seed tokens to context tokens: bipartite soft matching and its ablations (SPEC 2.1, step 4).

Shape legend: B videos, n seed tokens of a video (all frames in a row), k context tokens, D width.

Every method computes, without gradient, which context token each seed goes into: an assignment
(B, n) of int64 in [0, k), or -1 for a dropped seed. A context token is the mean of its seeds,
which equals the step-by-step weighted mean of the published method; gradients reach the seeds
through this mean alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tcclip.config import Aggregation
from tcclip.model.layers import full_precision, no_autocast

KMEANS_ITERATIONS = 10
DENSITY_NEIGHBOURS = 5


def assign(
    seeds: Tensor,
    k: int,
    *,
    method: Aggregation,
    step: int,
    layer: int = 0,
    tables: MergeTables | None = None,
) -> Tensor:
    """Which of the k context tokens each of the seeds (B, n, D) goes into, (B, n).

    With method "none" every seed is a context token and k is n. `layer` varies the random draw;
    `tables`, those of bipartite merging, are made here if they are not given.
    """
    B, n, _ = seeds.shape
    if method == "none":
        return torch.arange(n, device=seeds.device).expand(B, n)
    with torch.no_grad(), no_autocast(seeds):
        tokens = full_precision(seeds)
        if method == "bipartite":
            return bipartite(tokens, tables or merge_tables((B, n), k, step, seeds))
        if method == "kmeans":
            return kmeans(tokens, k)
        if method == "dpc_knn":
            return density_peaks(tokens, k)
        return random_choice(tokens, k, layer)


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


# ---- Bipartite soft matching (ToMe), the method's own ----


def merge_steps(n: int, k: int, step: int) -> list[int]:
    """How many tokens each step removes from n to k."""
    steps = []
    while n > k:
        steps.append(min(step, n - k, n // 2))
        n = n - steps[-1]  # in place it would change the caller's, a tensor while tracing
    return steps


@dataclass(frozen=True)
class MergeTables:
    """Index tables of `bipartite`, the same for every layer.

    A step puts its m tokens in a new order: r that it merges, the other even ones, the odd ones.
    The places in the orders of all steps are numbered in a row, after the n seeds.

    For each step: r, its `odd` positions (B, m // 2) and `eye` (m // 2, m // 2). For all: `video`
    (B, 1); `seeds` (B, n), their numbers; `starts` (n + sum of m,), the number of the first token
    that a place's entry counts from; `odd_starts` (n - k,), the same for a merged token's partner;
    `ends` (n,), the places of the merged tokens of every step and of the k last tokens; `last`
    (B, k), these as indices into `ends`.
    """

    steps: list[int]
    odd: list[Tensor]
    eye: list[Tensor]
    video: Tensor
    seeds: Tensor
    starts: Tensor
    odd_starts: Tensor
    ends: Tensor
    last: Tensor


def merge_tables(shape: tuple[int, int], k: int, step: int, like: Tensor) -> MergeTables:
    """The tables for seeds of `shape` (B, n), on the device and in the precision of `like`."""
    (B, n), device = shape, like.device
    steps = merge_steps(n, k, step)
    numbers = torch.arange(n, device=device)
    eye = torch.eye(n // 2, device=device, dtype=full_precision(like[:0]).dtype)
    start, first, m = 0, n, n
    starts, odd_starts, ends, sizes = [numbers.new_zeros(n)], [], [], []
    for r in steps:
        starts.append(numbers.new_full((m,), start))
        odd_starts.append(numbers.new_full((r,), first + m - m // 2))
        ends.append(torch.arange(first, first + r, device=device))
        sizes.append(m)
        start, first, m = first + r, first + m, m - r
    ends.append(torch.arange(start, start + k, device=device))
    return MergeTables(
        steps=steps,
        odd=[numbers[1:m:2].expand(B, -1) for m in sizes],
        eye=[eye[: m // 2, : m // 2] for m in sizes],
        video=torch.arange(B, device=device).unsqueeze(1),
        seeds=numbers.expand(B, n),
        starts=torch.cat(starts),
        odd_starts=torch.cat(odd_starts) if steps else numbers[:0],
        ends=torch.cat(ends),
        last=numbers[n - k :].expand(B, -1),
    )


def bipartite(tokens: Tensor, tables: MergeTables) -> Tensor:
    """Assignment by repeated matching of even with odd positions.

    Sums are kept instead of weighted means: the cosine of two sums is that of the two means.
    """
    orders, targets = [tables.seeds], []
    for r, odd, eye in zip(tables.steps, tables.odd, tables.eye, strict=True):
        tokens, order, target = _merge_step(tokens, r, tables.video, odd, eye)
        orders.append(order)
        targets.append(target)
    return _follow(orders, targets, tables) if targets else tables.seeds


def _merge_step(
    sums: Tensor, r: int, video: Tensor, odd: Tensor, eye: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Remove r tokens. (B, m, D) -> (B, m - r, D), the order (B, m) in which the step put the
    tokens, and which of the odd ones each of its first r went into (B, r)."""
    m = sums.shape[1]
    unit = sums / sums.norm(dim=-1, keepdim=True)
    similarity, partner = torch.bmm(unit[:, ::2], unit[:, 1::2].mT).max(-1)
    order = similarity.argsort(dim=-1, descending=True, stable=True)
    target = partner.gather(1, order[:, :r])
    order = torch.cat([2 * order, odd], dim=1)
    ordered = sums[video, order]
    merged, _, into = ordered.split([r, m - r - m // 2, m // 2], dim=1)
    into.add_(torch.bmm(eye[target].mT, merged))
    return ordered[:, r:], order, target


def _follow(orders: list[Tensor], targets: list[Tensor], tables: MergeTables) -> Tensor:
    """Which of the k last tokens each seed went into, (B, n).

    Permutations are inverted by comparison and chains followed by doubling: a scatter would be
    slow on a GPU where it has to be deterministic.
    """
    doublings = (len(targets) - 1).bit_length()
    # From every place back to the seed that stands for it: of merged tokens, the odd one's.
    seed = torch.cat(orders, dim=1) + tables.starts
    for _ in range(doublings):
        seed = seed.gather(1, seed)
    # Every seed ends at one place: where it is merged into another, or among the k last.
    _, end = places(seed[:, tables.ends], tables.ends.shape[0])
    partner = seed.gather(1, torch.cat(targets, dim=1) + tables.odd_starts)
    into = torch.cat([end.gather(1, partner), tables.last], dim=1)
    for _ in range(doublings):
        into = into.gather(1, into)
    return into.gather(1, end) - partner.shape[1]


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
    is_centre, rank = places(centres, n)
    return torch.where(is_centre, rank, assignment)
