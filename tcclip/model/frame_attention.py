"""What a frame attends to: itself and, by setting, other frames or context (SPEC 2.1, 2.3).

Shape legend: B videos, T frames, N tokens a frame (CLS first), P = N - 1 patches, k context
tokens, H heads, E width of a head, S queries a frame, M keys a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tcclip.config import FrameAttention
from tcclip.model.layers import full_precision, no_autocast

#: The bias needs one more column of queries and keys; fused kernels prefer multiples of 8.
BIAS_COLUMNS = 8


@dataclass(frozen=True)
class FrameKeys:
    """Keys and values (B, T, M, H, E) of each frame, its own N tokens first when there is context.

    `own` is N, the number of the frame's own tokens. `mask` (T, M) is True where a key is
    allowed; None allows all. `bias` (H, M) is added to the scores. `joint`: one set of keys
    for all frames, so T is 1 here.
    """

    k: Tensor
    v: Tensor
    own: int
    mask: Tensor | None = None
    bias: Tensor | None = None
    joint: bool = False


def frame_keys(
    mode: FrameAttention,
    k: Tensor,
    v: Tensor,
    context: tuple[Tensor, Tensor] | None,
    bias_table: Tensor | None,
) -> FrameKeys:
    """Gather the keys of every frame from all frames' keys and values (B, T, N, H, E).

    `context`: keys and values (B, k, H, E) of the context tokens. `bias_table` (H, 1, 2): one
    scalar for local keys and one for context, added to the scores.
    """
    T, N = k.shape[1:3]
    if mode == "cls":
        return FrameKeys(_with_all_cls(k), _with_all_cls(v), N)
    if mode == "window":
        return FrameKeys(_with_neighbours(k), _with_neighbours(v), N, mask=_neighbour_mask(k))
    if mode == "joint":
        return FrameKeys(k.flatten(1, 2)[:, None], v.flatten(1, 2)[:, None], N, joint=True)
    if mode == "none" or context is None:
        return FrameKeys(k, v, N)
    keys, values = (
        torch.cat([own, shared.unsqueeze(1).expand(-1, T, -1, -1, -1)], dim=2)
        for own, shared in zip((k, v), context, strict=True)
    )
    bias = None
    if bias_table is not None:
        local, shared = bias_table.flatten(1).split(1, dim=1)
        bias = torch.cat([local.expand(-1, N), shared.expand(-1, keys.shape[2] - N)], dim=1)
    return FrameKeys(keys, values, N, bias=bias)


def attend_frames(q: Tensor, keys: FrameKeys) -> Tensor:
    """Queries (B, T, S, H, E) on their frame's keys -> (B, T, S, H, E)."""
    B, T, S, H, E = q.shape
    k, v = keys.k.flatten(0, 1), keys.v.flatten(0, 1)
    q = q.flatten(1, 2) if keys.joint else q.flatten(0, 1)
    if keys.bias is not None:
        q, k, v = _fold_bias(q, k, v, keys.bias)
    mask = None
    if keys.mask is not None:
        mask = keys.mask.expand(B, -1, -1).flatten(0, 1)[:, None, None]
    # The scale of E columns, whatever the bias adds to them.
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, scale=E**-0.5
    )
    return out.transpose(1, 2)[..., :E].reshape(B, T, S, H, E)


def _fold_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write the bias (H, M) as one more product: queries get columns of ones, keys a column of
    biases and zeros.

    Fused kernels take no bias that needs a gradient, and a mask would cost (heads, S, M) memory.
    """
    E = q.shape[-1]
    column = (bias * E**0.5).to(k.dtype).t().unsqueeze(-1)
    columns = F.pad(column, (0, BIAS_COLUMNS - 1)).expand(k.shape[0], -1, -1, -1)
    k = torch.cat([k, columns], dim=-1)
    return F.pad(q, (0, BIAS_COLUMNS), value=1.0), k, F.pad(v, (0, BIAS_COLUMNS))


@torch.no_grad()
def cls_attention(q: Tensor, keys: FrameKeys) -> Tensor:
    """The CLS queries' (B, T, H, E) softmax weights on their own patches -> (B, T, H, P).

    The softmax includes CLS itself and the context tokens; their weights are not returned.
    In float32 at least, without gradient: it selects the patches that become seeds.
    """
    E = q.shape[-1]
    with no_autocast(q):
        scores = _products(q, keys.k) * E**-0.5
        if keys.bias is not None:
            scores = scores + keys.bias
        weights: Tensor = scores.softmax(-1)
        return weights[..., 1 : keys.own]


def _products(q: Tensor, k: Tensor) -> Tensor:
    """Of one query a frame (B, T, H, E) with its keys (B, T, M, H, E), in float32 at least,
    (B, T, H, M).

    All heads in one matrix product, of rows as they lie in memory with a block of columns in which
    each head's query is alone: the zeros cost less than a copy of the keys, head by head or in
    float32. Products of bfloat16 are exact in float32, so only their sum has to be in it.
    """
    B, T, M, H, _ = k.shape
    # Tensor cores take columns by the eight.
    heads = torch.eye(H, -(-H // 8) * 8, dtype=q.dtype, device=q.device).unsqueeze(1)
    columns = (q.unsqueeze(-1) * heads).flatten(2, 3).flatten(0, 1)
    rows = k.flatten(3).flatten(0, 1)
    if rows.is_cuda and rows.dtype in (torch.bfloat16, torch.float16):
        products = torch.bmm(rows, columns, out_dtype=torch.float32)
    else:
        products = torch.bmm(full_precision(rows), full_precision(columns))
    return products[..., :H].view(B, T, M, H).transpose(2, 3)


def _with_all_cls(x: Tensor) -> Tensor:
    """Every frame's CLS token, then the frame's own patches: (B, T, N, H, E) to T + P keys."""
    T = x.shape[1]
    all_cls = x[:, :, 0].unsqueeze(1).expand(-1, T, -1, -1, -1)
    return torch.cat([all_cls, x[:, :, 1:]], dim=2)


def _with_neighbours(x: Tensor) -> Tensor:
    """The frame's tokens, then the patches of the frames before and after it (wrapping around)."""
    patches = x[:, :, 1:]
    return torch.cat([x, patches.roll(1, dims=1), patches.roll(-1, dims=1)], dim=2)


def _neighbour_mask(x: Tensor) -> Tensor:
    """Which of `_with_neighbours`' keys exist: the first frame has none before it, (T, N + 2P)."""
    T, N = x.shape[1:3]
    frame = torch.arange(T, device=x.device)
    exists = torch.stack([frame >= 0, frame > 0, frame < T - 1], dim=1)
    counts = torch.tensor([N, N - 1, N - 1], device=x.device)
    return exists.repeat_interleave(counts, dim=1, output_size=3 * N - 2)
