"""Layers of both towers: packed attention projections, the MLP, precision helpers.

Shape legend: H heads, E width of a head, D = H * E width of a tower, S queries, M keys.
Leading axes, written `...`, are free.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tcclip.config import Activation


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32 if it is narrower, else unchanged (SPEC 9: selection and similarities)."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which matrix products on `x`'s device keep their inputs' precision."""
    return torch.autocast(x.device.type, enabled=False)


def run_layer(layer: nn.Module, *inputs: Any, recompute: bool) -> Any:
    """`layer(*inputs)`; with `recompute`, activations are recomputed in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
    return layer(*inputs)


class Mlp(nn.Module):
    """Two linear layers, four times as wide between them, with CLIP's QuickGELU (SPEC 1) or GELU.

    SiLU of 1.702 x, divided, would store less for the backward pass, but rounds twice more: the
    error of float32 logits almost doubled.
    """

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        hidden = self.c_fc(x.flatten(0, -2))
        hidden = _QuickGelu.apply(hidden) if self.activation == "quick_gelu" else F.gelu(hidden)
        out: Tensor = self.c_proj(hidden).view(x.shape)
        return out


class _QuickGelu(torch.autograd.Function):
    """x sigmoid(1.702 x). Keeps x alone for the backward pass, where autograd would keep the
    sigmoid too: at the width of the MLP's hidden layer, a quarter of a layer's activations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (1.702 * x).sigmoid_().mul_(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # The derivative is that of SiLU, y sigmoid(y), at y = 1.702 x.
        derivative: Tensor = torch.ops.aten.silu_backward(grad, 1.702 * x)
        return derivative


class Attention(nn.Module):
    """The four projections of multi-head attention, Q, K and V packed in one matrix as in CLIP.

    Callers choose which tokens are queries and which are keys; `attend` does the rest.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def packed(self, x: Tensor) -> Tensor:
        """(..., D) -> queries, keys and values (..., 3, H, E) in one."""
        out = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        return out.view(*x.shape[:-1], 3, self.heads, -1)

    def queries(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., H, E)."""
        return self._project(x, 0, 1)[0]

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> keys, values, each (..., H, E)."""
        k, v = self._project(x, 1, 3)
        return k, v

    def merge_heads(self, x: Tensor) -> Tensor:
        """The output projection. (..., H, E) -> (..., D)."""
        out: Tensor = self.out_proj(x.flatten(-2))
        return out

    def _project(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        D = x.shape[-1]
        rows = slice(first * D, last * D)
        out = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        return out.view(*x.shape[:-1], last - first, self.heads, D // self.heads).unbind(-3)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    """Fused softmax attention. q (B, S, H, E), k and v (B, M, H, E) -> (B, S, H, E).

    `mask` is added to the scores and broadcasts to (B, H, S, M).
    """
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, is_causal=causal
    )
    return out.transpose(1, 2)
