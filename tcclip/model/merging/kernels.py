"""Bipartite matching on a GPU: Triton kernels that work on the products of all pairs of tokens.

Shape legend: B videos, n tokens of a video, of which a step has m and merges r, half of m at most.

The similarity of two sums of tokens follows from the tokens' products: merging a token into another
adds its row to the other's and its column to the other's. So the tokens are multiplied once a
layer, not once a step, and a step only adds and looks numbers up. A token that others are merged
into keeps its number among the n.

No number depends on the order in which programs run, and no kernel reads what it writes. Nothing is
read or written out of bounds whatever the tokens hold: a similarity that is no number counts as the
lowest. Of equal similarities the first counts, but rounding decides which are equal.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Tokens, or merged ones, of a program, and how much of the tokens' width it multiplies at once.
TILE, DEPTH = 64, 32
#: Even tokens of a program that looks for partners, and odd ones that it looks at together.
EVEN, ODD = 16, 128
#: How many numbers a program compares its own with at a time.
CHUNK = 16


def matched(tokens: Tensor, steps: list[int]) -> Tensor:
    """Tokens (B, n, D), float32, contiguous -> which of those left each went into, (B, n).

    `steps`: how many tokens each step merges.
    """
    B, n, _ = tokens.shape
    found = torch.empty((B, n), device=tokens.device, dtype=torch.int64)
    gram = products(tokens)
    summed = torch.empty_like(gram)
    # The numbers of the tokens left, and of the token that each merged one went into.
    seeds = torch.arange(n, device=tokens.device, dtype=torch.int32).repeat(B, 1)
    into, following = seeds.clone(), torch.empty_like(seeds)
    partners, order, merged, targets, heads, nexts = (torch.empty_like(seeds) for _ in range(6))
    similarity = torch.empty_like(seeds, dtype=torch.float32)
    # One code for all steps.
    LISTED, COUNT = triton.next_power_of_2(max(steps)), triton.next_power_of_2(n)
    m = n
    for r in steps:
        evens, odds = m - m // 2, m // 2
        _find_partners[triton.cdiv(evens, EVEN), B](
            gram, similarity, partners, n, evens, odds, EVEN=EVEN, ODD=ODD
        )
        _order[triton.cdiv(evens, TILE), B](
            similarity, partners, seeds, following, into, order, merged, targets, heads,
            n, r, evens, odds, TILE=TILE, CHUNK=CHUNK,
        )  # fmt: skip
        _chain[triton.cdiv(r, TILE), B](targets, heads, nexts, n, r, TILE=TILE, CHUNK=CHUNK)
        m -= r
        _merge[m, B](
            gram, summed, order, merged, targets, heads, nexts, n, r, m,
            LISTED=LISTED, COUNT=COUNT,
        )  # fmt: skip
        gram, summed, seeds, following = summed, gram, following, seeds
    _follow[triton.cdiv(n, TILE), B](
        into, seeds, found, n, m, len(steps), TILE=TILE, CHUNK=CHUNK
    )  # fmt: skip
    return found


def products(tokens: Tensor) -> Tensor:
    """The products of all pairs of the tokens (B, n, D), float32 -> (B, n, n)."""
    B, n, D = tokens.shape
    gram = tokens.new_empty(B, n, n)
    tiles = triton.cdiv(n, TILE)
    _products[tiles, tiles, B](tokens, gram, n, D, TILE=TILE, DEPTH=DEPTH)
    return gram


@triton.jit
def _products(tokens, gram, n, D, TILE: tl.constexpr, DEPTH: tl.constexpr):
    """A square of the products, and its mirror image, each the sum of three products in TF32."""
    video = tl.program_id(2).to(tl.int64)
    i, j = tl.program_id(1), tl.program_id(0)
    if j <= i:
        rows = i * TILE + tl.arange(0, TILE)
        columns = j * TILE + tl.arange(0, TILE)
        depth = tl.arange(0, DEPTH)
        left = tokens + video * n * D + rows[:, None] * D + depth[None, :]
        right = tokens + video * n * D + columns[None, :] * D + depth[:, None]
        total = tl.zeros((TILE, TILE), tl.float32)
        for start in range(0, D, DEPTH):
            within = depth < D - start
            a = tl.load(left + start, (rows < n)[:, None] & within[None, :], 0.0)
            b = tl.load(right + start, (columns < n)[None, :] & within[:, None], 0.0)
            total = tl.dot(a, b, total, input_precision="tf32x3")
        within = (rows < n)[:, None] & (columns < n)[None, :]
        gram += video * n * n
        tl.store(gram + rows[:, None] * n + columns[None, :], total, within)
        if j < i:
            tl.store(gram + columns[None, :] * n + rows[:, None], total, within)


@triton.jit(do_not_specialize=["evens", "odds"])
def _find_partners(
    gram, similarity, partners, n, evens, odds, EVEN: tl.constexpr, ODD: tl.constexpr
):
    """Of some even tokens the most similar odd one, the first of equals, and the similarity."""
    video = tl.program_id(1).to(tl.int64)
    gram += video * n * n
    even = tl.program_id(0) * EVEN + tl.arange(0, EVEN)
    row = tl.where(even < evens, 2 * even, 0)
    best = tl.full((EVEN,), float("-inf"), tl.float32)
    partner = tl.zeros((EVEN,), tl.int32)
    for start in range(0, odds, ODD):
        odd = start + tl.arange(0, ODD)
        column = tl.where(odd < odds, 2 * odd + 1, 0)
        norm = tl.sqrt(tl.load(gram + column * (n + 1)))
        cosine = tl.load(gram + row[:, None] * n + column[None, :]) / norm[None, :]
        cosine = tl.where((odd < odds)[None, :] & (cosine == cosine), cosine, float("-inf"))
        highest, place = tl.max(cosine, 1, return_indices=True)
        better = highest > best
        best = tl.where(better, highest, best)
        partner = tl.where(better, start + place, partner)
    best /= tl.sqrt(tl.load(gram + row * (n + 1)))
    best = tl.where(best == best, best, float("-inf"))
    tl.store(similarity + video * n + even, best, even < evens)
    tl.store(partners + video * n + even, partner, even < evens)


@triton.jit(do_not_specialize=["r", "evens", "odds"])
def _order(
    similarity, partners, seeds, following, into, order, merged, targets, heads,
    n, r, evens, odds, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The r most similar even tokens are merged; the other even ones, then the odd ones follow.

    `order`: for each place after the step, the one before. `merged`, `targets`: the place of each
    merged one before, and of the token that it goes into after the step, most similar first.
    """
    first = tl.program_id(1).to(tl.int64) * n
    one = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_even, is_odd = one < evens, one < odds
    value = tl.load(similarity + first + one, is_even, float("-inf"))
    before = tl.zeros((TILE, CHUNK), tl.int32)
    for start in range(0, evens, CHUNK):
        other = start + tl.arange(0, CHUNK)
        against = tl.load(similarity + first + other, other < evens, float("-inf"))
        equal = (against[None, :] == value[:, None]) & (other[None, :] < one[:, None])
        better = (against[None, :] > value[:, None]) | equal
        before += (better & (other < evens)[None, :]).to(tl.int32)
    rank = tl.sum(before, 1)
    gone, stays = is_even & (rank < r), is_even & (rank >= r)
    partner = tl.load(partners + first + one, is_even, 0)
    seed = tl.load(seeds + first + 2 * one, is_even, 0)
    tl.store(into + first + seed, tl.load(seeds + first + 2 * partner + 1, gone, 0), gone)
    tl.store(merged + first + rank, 2 * one, gone)
    tl.store(targets + first + rank, evens - r + partner, gone)
    place = rank - r
    tl.store(following + first + place, seed, stays)
    tl.store(order + first + place, 2 * one, stays)
    tl.store(heads + first + place, -1, stays)
    place = evens - r + one
    tl.store(following + first + place, tl.load(seeds + first + 2 * one + 1, is_odd, 0), is_odd)
    tl.store(order + first + place, 2 * one + 1, is_odd)
    tl.store(heads + first + place, -1, is_odd)


@triton.jit(do_not_specialize=["r"])
def _chain(targets, heads, nexts, n, r, TILE: tl.constexpr, CHUNK: tl.constexpr):
    """For each target the first token merged into it, for each of these the next, -1 if none: of
    those that `merged` and `targets` list, their places in these lists."""
    first = tl.program_id(1).to(tl.int64) * n
    one = tl.program_id(0) * TILE + tl.arange(0, TILE)
    target = tl.load(targets + first + one, one < r, -1)
    following = tl.full((TILE,), r, tl.int32)
    earlier = tl.zeros((TILE,), tl.int32)
    for start in range(0, r, CHUNK):
        other = start + tl.arange(0, CHUNK)
        against = tl.load(targets + first + other, other < r, -2)
        same = target[:, None] == against[None, :]
        later = tl.where(same & (other[None, :] > one[:, None]), other[None, :], r)
        following = tl.minimum(following, tl.min(later, 1))
        earlier += tl.sum((same & (other[None, :] < one[:, None])).to(tl.int32), 1)
    tl.store(nexts + first + one, tl.where(following < r, following, -1), one < r)
    tl.store(heads + first + target, one, (one < r) & (earlier == 0))


@triton.jit(do_not_specialize=["r", "left"])
def _merge(
    gram, summed, order, merged, targets, heads, nexts, n, r, left,
    LISTED: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """One row of the products of those that are left, after the merging.

    It is the sum of the rows of a token and of those merged into it, in which the columns of merged
    tokens are added to their targets'.
    """
    start = tl.program_id(1).to(tl.int64) * n
    gram += start * n
    place = tl.arange(0, COUNT)
    sums = tl.zeros((COUNT,), tl.float32)
    row = tl.load(order + start + tl.program_id(0))
    following = tl.load(heads + start + tl.program_id(0))
    more = 1
    while more == 1:
        sums += tl.load(gram + row * n + place, place < left + r, 0.0)
        more = tl.where(following >= 0, 1, 0)
        row = tl.load(merged + start + following, following >= 0, 0)
        following = tl.load(nexts + start + following, following >= 0, -1)
    alone = (place < left) & (tl.load(heads + start + place, place < left, 0) < 0)
    total = tl.gather(sums, tl.load(order + start + place, alone, 0), 0)
    one = tl.arange(0, LISTED)
    target = tl.load(targets + start + one, one < r, 0)
    is_head = (one < r) & (tl.load(heads + start + target) == one)
    joined = tl.gather(sums, tl.load(order + start + target), 0)
    at = tl.where(is_head, one, -1)
    while tl.max(at, 0) >= 0:
        column = tl.gather(sums, tl.load(merged + start + at, at >= 0, 0), 0)
        joined += tl.where(at >= 0, column, 0.0)
        at = tl.load(nexts + start + at, at >= 0, -1)
    summed += start * n + tl.program_id(0) * n
    tl.store(summed + place, total, alone)
    tl.store(summed + target, joined, is_head)


@triton.jit(do_not_specialize=["left", "steps"])
def _follow(into, seeds, found, n, left, steps, TILE: tl.constexpr, CHUNK: tl.constexpr):
    """Where the seeds that each seed went into went in turn, as the place among those left."""
    first = tl.program_id(1).to(tl.int64) * n
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    seed = tl.load(into + first + own, own < n, 0)
    for _ in range(1, steps):
        seed = tl.load(into + first + seed)
    place = tl.zeros((TILE, CHUNK), tl.int32)
    for start in range(0, left, CHUNK):
        one = start + tl.arange(0, CHUNK)
        listed = tl.load(seeds + first + one, one < left, -1)
        place += tl.where(listed[None, :] == seed[:, None], one[None, :], 0)
    tl.store(found + first + own, tl.sum(place, 1), own < n)
