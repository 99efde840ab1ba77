"""Ways to attend to a frame's own tokens and the video's context tokens under a learned bias.

    python -m tests.benchmarks.attention_bench --device cuda

One layer's attention, from the projected queries, keys and values: the model's way in training (a
bias folded into 8 more columns of a head) against others that give the same numbers. Prints
milliseconds forward and backward, and forward alone, how many times faster each is than the
model's way, measured in turn in the same run, and the largest difference to it in output and
gradients.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tcclip.model.frame_attention import attend_frames, frame_keys

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def folded(frames: Tensor, context: Tensor, table: Tensor) -> Tensor:
    """The model's way. frames (B, T, N, 3, H, E), context (B, k, 2, H, E), table (H, 1, 2)."""
    q, k, v = frames.unbind(3)
    ck, cv = context.unbind(2)
    return attend_frames(q, frame_keys("context", k, v, (ck, cv), table))


def joined(frames: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B * T, H, N or N + k, E)."""
    T = frames.shape[1]
    shared = context.unsqueeze(1).expand(-1, T, -1, -1, -1, -1)
    keys_values = torch.cat([frames[:, :, :, 1:], shared], dim=2).flatten(0, 1)
    k, v = keys_values.permute(2, 0, 3, 1, 4)
    return frames[:, :, :, 0].flatten(0, 1).transpose(1, 2), k, v


def masked(frames: Tensor, context: Tensor, table: Tensor) -> Tensor:
    """The bias as an additive mask that is expanded over frames and queries."""
    B, T, N, _, H, E = frames.shape
    q, k, v = joined(frames, context)
    bias = torch.cat(
        [table[..., :1].expand(-1, 1, N), table[..., 1:].expand(-1, 1, k.shape[2] - N)], dim=2
    )
    mask = bias.to(q.dtype).expand(B * T, H, N, -1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).reshape(B, T, N, H, E)


def flexible(frames: Tensor, context: Tensor, table: Tensor) -> Tensor:
    """flex_attention, which compiles a kernel with the bias in it."""
    from torch.nn.attention.flex_attention import flex_attention

    B, T, N, _, H, E = frames.shape
    q, k, v = joined(frames, context)

    def biased(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + torch.where(key < N, table[h, 0, 0], table[h, 0, 1])

    out = flex_attention(q, k, v, score_mod=biased)
    assert isinstance(out, Tensor)
    return out.transpose(1, 2).reshape(B, T, N, H, E)


class _TwoParts(torch.autograd.Function):
    """Two flash attention calls, joined by their log-sum-exps; no key is copied.

    Only the difference of the two biases matters. The backward pass of each part is flash
    attention's own, given the joint output and log-sum-exp, from which the context part's takes
    the bias off again.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, ck: Tensor, cv: Tensor, bias: Tensor, cudnn: bool
    ) -> Tensor:
        B, T, N, H, E = q.shape
        own = [x.flatten(0, 1).transpose(1, 2) for x in (q, k, v)]
        shared = [x.transpose(1, 2) for x in (q.flatten(1, 2), ck, cv)]
        a, a_sum = _forward(*own, cudnn)
        b, b_sum = _forward(*shared, cudnn)
        a_sum = a_sum.reshape(B, T, H, N)
        b_sum = b_sum.reshape(B, H, T, N).transpose(1, 2) + bias
        a = a.unflatten(0, (B, T))
        b = b.unflatten(2, (T, N)).transpose(1, 2)
        weight = torch.sigmoid(b_sum - a_sum)
        out = torch.lerp(a.float(), b.float(), weight.unsqueeze(-1)).to(q.dtype)
        total = torch.logaddexp(a_sum, b_sum)
        ctx.save_for_backward(q, k, v, ck, cv, bias, b, out, total, weight)
        ctx.cudnn = cudnn
        return out.transpose(2, 3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, ck, cv, bias, b, out, total, weight = ctx.saved_tensors
        B, T, N, H, E = q.shape
        grad = grad.transpose(2, 3)
        own = [x.flatten(0, 1).transpose(1, 2) for x in (q, k, v)]
        shared = [x.transpose(1, 2) for x in (q.flatten(1, 2), ck, cv)]
        dq, dk, dv = (
            x.transpose(1, 2).view(B, T, N, H, E)
            for x in _backward(
                grad.flatten(0, 1), *own, out.flatten(0, 1), total.flatten(0, 1), ctx.cudnn
            )
        )
        grad_all, out_all = (x.transpose(1, 2).flatten(2, 3) for x in (grad, out))
        context_total = (total - bias).transpose(1, 2).flatten(2)
        other, dck, dcv = (
            x.transpose(1, 2)
            for x in _backward(grad_all, *shared, out_all, context_total, ctx.cudnn)
        )
        dbias = (
            ((grad.float() * (b.float() - out.float())).sum(-1) * weight)
            .sum((0, 1, 3))
            .unsqueeze(1)
        )
        return dq + other.view(B, T, N, H, E), dk, dv, dck, dcv, dbias, None


# Operators, so that compiled code takes the calls as they are: compiled as a part of it, cuDNN's
# gave wrong numbers. All tensors (.., S, E) are laid out with heads after positions.


@torch.library.custom_op("attention_bench::forward", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, cudnn: bool) -> tuple[Tensor, Tensor]:
    """Output (.., S, E) and log-sum-exp (.., S)."""
    if not q.is_cuda:
        out, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    elif cudnn:
        out, total, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
    else:
        out, total, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)
    return _heads_last(out), total.reshape(q.shape[:-1]).contiguous()


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, cudnn: bool) -> tuple[Tensor, Tensor]:
    return _heads_last(torch.empty_like(q)), q.new_empty(q.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("attention_bench::backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, total: Tensor, cudnn: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values."""
    grad, out, total = _heads_last(grad), _heads_last(out), total.contiguous()
    sizes = q.shape[2], k.shape[2]
    if not q.is_cuda:
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        found = backward(grad, q, k, v, out, total, 0.0, False)
    elif cudnn:  # the random states are not read without dropout
        state = torch.zeros((), dtype=torch.int64, device=q.device)
        backward = torch.ops.aten._scaled_dot_product_cudnn_attention_backward
        found = backward(
            grad, q, k, v, out, total.unsqueeze(-1), state, state, None, None, None, *sizes,
            0.0, False,
        )  # fmt: skip
    else:
        state = torch.zeros(2, dtype=torch.uint64, device=q.device)
        backward = torch.ops.aten._scaled_dot_product_flash_attention_backward
        found = backward(
            grad, q, k, v, out, total, None, None, *sizes, 0.0, False, state, state
        )  # fmt: skip
    dq, dk, dv = (_heads_last(x) for x in found)
    return dq, dk, dv


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, total: Tensor, cudnn: bool
) -> tuple[Tensor, ...]:
    return tuple(_heads_last(torch.empty_like(x)) for x in (q, k, v))


def _heads_last(x: Tensor) -> Tensor:
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def two_parts(frames: Tensor, context: Tensor, table: Tensor, cudnn: bool = False) -> Tensor:
    q, k, v = frames.unbind(3)
    ck, cv = context.unbind(2)
    out: Tensor = _TwoParts.apply(q, k, v, ck, cv, table[:, :, 1] - table[:, :, 0], cudnn)
    return out


def two_parts_cudnn(frames: Tensor, context: Tensor, table: Tensor) -> Tensor:
    return two_parts(frames, context, table, cudnn=True)


WAYS: dict[str, Attend] = {
    "folded": folded,
    "folded, compiled": torch.compile(folded),
    "two parts": two_parts,
    "two parts, compiled": torch.compile(two_parts),
    "two parts, cuDNN": two_parts_cudnn,
    "two parts, cuDNN, compiled": torch.compile(two_parts_cudnn),
    "masked": masked,
    "flex, compiled": torch.compile(flexible),
}


def inputs(args: argparse.Namespace) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (args.batch, args.frames, args.tokens, 3, args.heads, args.width),
        (args.batch, args.context, 2, args.heads, args.width),
        (args.heads, 1, 2),
    ]
    dtype = getattr(torch, args.dtype)
    tensors = [torch.randn(shape, generator=generator).to(args.device) for shape in shapes]
    tensors[:2] = [x.to(dtype) for x in tensors[:2]]
    return [x.requires_grad_() for x in tensors]


def results(way: Attend, tensors: list[Tensor]) -> list[Tensor]:
    """Output and gradients."""
    out = way(*tensors)
    return [out.detach(), *torch.autograd.grad(out, tensors, torch.ones_like(out) * 0.1)]


def forward(way: Attend, tensors: list[Tensor]) -> None:
    with torch.no_grad():
        way(*tensors)


def milliseconds(run: Callable[[], Any], tensors: list[Tensor], repeats: int) -> float:
    def wait() -> None:
        if tensors[0].is_cuda:
            torch.cuda.synchronize()

    run()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        run()
        wait()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--repeats", type=int, default=20)
    sizes = {"batch": 16, "frames": 16, "tokens": 197, "context": 96, "heads": 12, "width": 64}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    args = parser.parse_args()
    tensors = inputs(args)
    expected = results(folded, tensors)
    print(f"{args.dtype}, median of {args.repeats}\n\n| way | ms | times faster | forward ms | "
          "times faster | largest difference |\n|---|---|---|---|---|---|")  # fmt: skip
    for name, way in WAYS.items():
        try:
            found = results(way, tensors)
        except (RuntimeError, NotImplementedError) as error:
            print(f"| {name} | not possible: {str(error).splitlines()[0][:100]} | | | | |")
            continue
        worst = max(
            ((a - b).abs().max() / b.abs().max()).item()
            for a, b in zip(found, expected, strict=True)
        )
        # Both measured here, one after the other: clocks drift.
        cells = []
        for run in (results, forward):
            base, own = (
                milliseconds(partial(run, x, tensors), tensors, args.repeats) for x in (folded, way)
            )
            cells += [f"{own:.2f}", f"{base / own:.2f}"]
        print(f"| {name} | {' | '.join(cells)} | {worst:.1e} |", flush=True)


if __name__ == "__main__":
    main()
