"""What each layer's CLS tokens attend to, read from a model as it runs.

Hooks on the layers' first LayerNorms note what enters the attention; the weights of the CLS
queries, which the model's fused kernels never write down, are computed from that afterwards.
Where there are no hooks the model is as it was.

Shape legend: T frames, N tokens a frame (CLS first), P = N - 1 patches, k context tokens, H heads,
E width of a head, D width, S seed patches a frame, M keys of a query. One video.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcclip.model import Model
from tcclip.model.frame_attention import frame_keys
from tcclip.model.layers import full_precision, no_autocast
from tcclip.model.tc_clip import Intermediates, VideoFeatures
from tcclip.model.vision import VisionBlock

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LayerView:
    """One layer: where its CLS queries looked, and what it chose and merged.

    Attention is softmax weights, mean over heads. `to_frames` (T, T, N): of frame t's CLS on every
    token of every frame, CLS first; 0 where it may not look. `to_context` (T, k): on the context
    tokens of the layer before; k is 0 where there are none. The two of a frame sum to 1.

    `seeds` (T, S): the chosen patches, best first. `groups` (T, P): the context token that each
    patch went into, -1 for none; a token is a group of patches through all frames, and groups of
    different layers have nothing to do with each other. Both None in a model without context.
    """

    to_frames: Floats
    to_context: Floats
    seeds: Ints | None = None
    groups: Ints | None = None

    @property
    def heat(self) -> Floats:
        """(T, P): the attention each patch gets from the CLS tokens of all frames, summed.

        Where a frame sees its own patches alone, that is its own CLS token's.
        """
        heat: Floats = self.to_frames[:, :, 1:].sum(0)
        return heat

    def shares(self) -> dict[str, float]:
        """How a CLS token's attention is divided, mean over frames; sums to 1."""
        own = np.einsum("ttn->tn", self.to_frames)
        cls, patches = own[:, 0].mean(), own[:, 1:].sum(1).mean()
        context = self.to_context.sum(1).mean()
        others = max(0.0, 1 - float(cls + patches + context))
        return {
            "own patches": float(patches),
            "own CLS": float(cls),
            "other frames": others if len(own) > 1 else 0.0,
            "context tokens": float(context),
        }

    def biggest_groups(self, count: int) -> list[int]:
        """The context tokens of the most patches, biggest first, the lower number on ties."""
        if self.groups is None:
            return []
        numbers, sizes = np.unique(self.groups[self.groups >= 0], return_counts=True)
        return [int(one) for one in numbers[np.argsort(-sizes, kind="stable")][:count]]


def encode(model: Model, video: Tensor) -> tuple[VideoFeatures, tuple[LayerView, ...]]:
    """One video (1, T, 3, height, width), normalised, on the model's device -> its features, as
    `Model.encode_video` gives them, and a view of each vision layer."""
    blocks = [cast(VisionBlock, block) for block in model.vision.blocks]
    with _noted_inputs(blocks) as inputs:
        features = model.encode_video(video, intermediates=True)
    chosen = cast(Intermediates, features.intermediates)
    return features, tuple(
        _view(block, *inputs[layer], chosen, layer) for layer, block in enumerate(blocks)
    )


@contextmanager
def _noted_inputs(blocks: list[VisionBlock]) -> Iterator[list[tuple[Tensor, Tensor | None]]]:
    """What each layer's attention is given: frame tokens (1, T, N, D) and, if there are any,
    context tokens (1, k, D), both normalised. Filled while the model runs."""
    noted: list[tuple[Tensor, Tensor | None]] = []

    def note(module: torch.nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        if out.ndim == 4:
            noted.append((out, None))
        else:
            noted[-1] = noted[-1][0], out

    hooks = [block.ln_1.register_forward_hook(note) for block in blocks]
    try:
        yield noted
    finally:
        for hook in hooks:
            hook.remove()


def _view(
    block: VisionBlock, tokens: Tensor, context: Tensor | None, chosen: Intermediates, layer: int
) -> LayerView:
    to_frames, to_context = cls_weights(block, tokens, context)
    if not chosen.seeds:
        return LayerView(to_frames, to_context)
    seeds, groups = chosen.seeds[layer][0], chosen.assignments[layer][0]
    return LayerView(
        to_frames, to_context, seeds.cpu().numpy(), groups.view(len(seeds), -1).cpu().numpy()
    )


def cls_weights(
    block: VisionBlock, tokens: Tensor, context: Tensor | None
) -> tuple[Floats, Floats]:
    """The CLS queries' softmax weights, mean over heads, for normalised frame tokens
    (1, T, N, D) and context (1, k, D): on all frames' tokens (T, T, N) and on context (T, k).

    Which keys a frame has is asked of the model: the tokens' numbers are gathered as its keys are.
    """
    T, N = tokens.shape[1:3]
    k = 0 if context is None else context.shape[1]
    attn, mode = block.attn, block.config.frame_attention
    shared = None if context is None else attn.keys_values(context)
    keys = frame_keys(mode, *attn.keys_values(tokens), shared, block.bias_table)
    numbers = torch.arange(T * N + k, device=tokens.device).view(1, -1, 1, 1)
    own, others = numbers[:, : T * N].unflatten(1, (T, N)), numbers[:, T * N :]
    named = frame_keys(mode, own, own, (others, others) if k else None, None)
    # With joint attention all frames have the same keys, which stand there once.
    q = full_precision(attn.queries(tokens[:, :, :1])[0, :, 0])
    k_all = full_precision(keys.k[0]).expand(T, -1, -1, -1)
    with no_autocast(q):
        scores = torch.einsum("the,tmhe->htm", q, k_all) * q.shape[-1] ** -0.5
    if keys.bias is not None:
        scores = scores + keys.bias.unsqueeze(1)
    if keys.mask is not None:
        scores = scores.masked_fill(~keys.mask, -torch.inf)
    weights = scores.softmax(-1).mean(0).cpu()
    places = named.k[0, :, :, 0, 0].expand(T, -1).cpu()
    spread = weights.new_zeros(T, T * N + k).scatter_add_(1, places, weights).numpy()
    return spread[:, : T * N].reshape(T, T, N), spread[:, T * N :]
