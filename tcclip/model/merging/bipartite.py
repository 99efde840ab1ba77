"""Bipartite soft matching (ToMe), the method's own. Shapes as in the package."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tcclip.model.layers import full_precision
from tcclip.model.merging.clusters import places


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
