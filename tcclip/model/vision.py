"""The vision tower with temporal contextualization (SPEC 2.1) and its attention ablations.

Shape legend: B videos, T frames, P patches a frame, N = 1 + P tokens a frame (CLS first),
S seed patches a frame, k context tokens, D width, H heads, E width of a head, d joint embedding.

Frame tokens (B, T, N, D) and context tokens (B, k, D) are two tensors: only frame tokens are
queries, both are keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcclip.config import ModelConfig
from tcclip.model.compiled import Compiler, Run, eagerly
from tcclip.model.frame_attention import FrameKeys, attend_frames, cls_attention, frame_keys
from tcclip.model.layers import Attention, Mlp, full_precision, run_layer
from tcclip.model.merging.assignment import assign
from tcclip.model.merging.bipartite import MergeTables, merge_steps, merge_tables
from tcclip.model.merging.clusters import cluster_means, places
from tcclip.model.merging.gpu import KernelMatch, kernel_match


@dataclass(frozen=True)
class LayerSelection:
    """What one layer selected: seeds (B, T, S) patch indices in descending order of score, the
    context tokens (B, T, S) they went into (-1: none), cls_attention (B, T, H, P)."""

    seeds: Tensor
    clusters: Tensor
    cls_attention: Tensor

    def assignment(self) -> Tensor:
        """The context token that each patch went into, -1 for none, (B, T*P)."""
        chosen, rank = places(self.seeds, self.cls_attention.shape[-1])
        return self.clusters.gather(2, rank).where(chosen, -1).flatten(1)


VisionOutput = tuple[Tensor, tuple[Tensor, ...], tuple[LayerSelection, ...]]
#: Seed tokens (B, T, S, D), their patch indices and the scores that chose them.
Chosen = tuple[Tensor, Tensor, Tensor]
#: How bipartite merging is done, the same in all layers.
Matching = MergeTables | KernelMatch
BlockOutput = tuple[Tensor, Tensor | None, LayerSelection | None]


class VisionBlock(nn.Module):
    """One layer: attention of each frame to its keys, new context tokens, MLP."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        sizes = config.sizes
        self.config, self.layer = config, layer
        self.ln_1 = nn.LayerNorm(sizes.vision_width)
        self.attn = Attention(sizes.vision_width, sizes.vision_heads)
        self.ln_2 = nn.LayerNorm(sizes.vision_width)
        self.mlp = Mlp(sizes.vision_width, config.activation)
        # The first layer has no context keys to weigh against local ones.
        has_bias = config.uses_context and config.local_global_bias and layer > 0
        self.bias_table = nn.Parameter(torch.empty(sizes.vision_heads, 1, 2)) if has_bias else None

    def forward(
        self,
        x: Tensor,
        context: Tensor | None,
        matching: Matching | None = None,
        run: Run = eagerly,
    ) -> BlockOutput:
        """Frames (B, T, N, D) and the last layer's context (B, k, D) -> the same, one layer on."""
        x, chosen = run(VisionBlock._frames)(self, x, context)
        if chosen is None:
            return x, None, None
        return x, *self._context(chosen, matching, run)

    def forward_last(
        self,
        x: Tensor,
        context: Tensor | None,
        matching: Matching | None = None,
        run: Run = eagerly,
        *,
        with_context: bool,
    ) -> BlockOutput:
        """The same for the last layer, whose patches are not used: only the CLS tokens
        (B, T, 1, D), and the seeds if `with_context`, are computed. Under `prompt_stop_grad`
        the context is computed without gradient, which saves the memory of its graph."""
        cls, chosen = run(VisionBlock._last_frames)(self, x, context, with_context)
        if chosen is None:
            return cls, None, None
        with self._context_gradient():
            return cls, *self._context(chosen, matching, run)

    def _frames(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Chosen | None]:
        """The frames (B, T, N, D), one layer on, and their seeds."""
        q, k, v = self.attn.packed(self.ln_1(x)).unbind(-3)
        keys = self._keys(k, v, context)
        x = x + self.attn.merge_heads(attend_frames(q, keys))
        if not self.config.uses_context:
            return self._ffn(x), None
        scores = cls_attention(q[:, :, 0], keys)
        seeds = top_patches(scores, self.config.seeds_per_frame)
        return self._ffn(x), (take_patches(x, seeds), seeds, scores)

    def _last_frames(
        self, x: Tensor, context: Tensor | None, with_context: bool
    ) -> tuple[Tensor, Chosen | None]:
        """The CLS tokens (B, T, 1, D), one layer on, and the seeds."""
        h = self.ln_1(x)
        keys = self._keys(*self.attn.keys_values(h), context)
        q = self.attn.queries(h[:, :, :1])
        cls = self._ffn(x[:, :, :1] + self.attn.merge_heads(attend_frames(q, keys)))
        if not (with_context and self.config.uses_context):
            return cls, None
        with self._context_gradient():
            scores = cls_attention(q[:, :, 0], keys)
            seeds = top_patches(scores, self.config.seeds_per_frame)
            q = self.attn.queries(take_patches(h, seeds))
            tokens = take_patches(x, seeds) + self.attn.merge_heads(attend_frames(q, keys))
            return cls, (tokens, seeds, scores)

    def _context_gradient(self) -> torch.set_grad_enabled:
        """Whether the last layer's context has a gradient."""
        enabled = torch.is_grad_enabled() and not self.config.prompt_stop_grad
        return torch.set_grad_enabled(enabled)

    def _keys(self, k: Tensor, v: Tensor, context: Tensor | None) -> FrameKeys:
        extra = None if context is None else self.attn.keys_values(self.ln_1(context))
        return frame_keys(self.config.frame_attention, k, v, extra, self.bias_table)

    def _ffn(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out

    def _context(
        self, chosen: Chosen, matching: Matching | None, run: Run
    ) -> tuple[Tensor, LayerSelection]:
        """The seed tokens of all frames -> context tokens (B, k, D), after the MLP."""
        config = self.config
        tokens, seeds, scores = chosen
        tokens = tokens.flatten(1, 2)
        # Apart from the rest: compiled once for all layers, with a shape for each of its steps, but
        # for kernels, which Triton compiles.
        clusters = (assign if isinstance(matching, KernelMatch) else run(assign))(
            tokens.detach(),
            config.context_tokens,
            method=config.aggregation,
            step=config.merge_step,
            layer=self.layer if config.aggregation == "random" else 0,
            matching=matching,
        )
        context = run(VisionBlock._means)(self, tokens, clusters)
        return context, LayerSelection(seeds, clusters.view(seeds.shape), scores)

    def _means(self, tokens: Tensor, clusters: Tensor) -> Tensor:
        """The mean of each cluster's tokens (B, n, D) after the MLP, (B, k, D)."""
        if self.config.aggregation == "none":
            return self._ffn(tokens)
        return self._ffn(cluster_means(tokens, clusters, self.config.context_tokens))


def top_patches(scores: Tensor, count: int) -> Tensor:
    """Scores (B, T, H, P) -> indices (B, T, count) of the best patches by mean over heads, best
    first. The sort is stable: between equal patches the lower index wins, on every device."""
    return scores.mean(2).argsort(dim=-1, descending=True, stable=True)[..., :count]


def take_patches(x: Tensor, index: Tensor) -> Tensor:
    """Patches of x (B, T, N, D), counted without CLS, at index (B, T, S) -> (B, T, S, D)."""
    taken: Tensor = _TakePatches.apply(x, index)
    return taken


class _TakePatches(torch.autograd.Function):
    """Both directions look rows up: a gather's own backward is a scatter, which has to sort on a
    GPU to be deterministic. The patches of a frame are distinct, so no gradients meet."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.tokens = x.shape[2]
        return _rows(x, index, first=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        S = index.shape[2]
        chosen, rank = places(index, ctx.tokens, first=-1)
        # One row of zeros more, for all that was not taken.
        return _rows(F.pad(grad, (0, 0, 0, 1)), rank.where(chosen, S), first=0), None


def _rows(x: Tensor, index: Tensor, first: int) -> Tensor:
    """Rows of x (B, T, M, D) at index (B, T, J), counted from row `first` -> (B, T, J, D)."""
    B, T, M, _ = x.shape
    starts = torch.arange(first, B * T * M, M, device=x.device).view(B, T, 1)
    return x.flatten(0, 2)[index + starts]


class VisionTower(nn.Module):
    """Patches to per-frame features and projected context tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = config.sizes
        D, N = sizes.vision_width, 1 + sizes.patches
        joint = config.positional_embedding == "joint"
        #: 1-based layers whose outgoing context tokens are returned.
        self.config, self.context_layers = config, config.prompted_layers
        self.conv1 = nn.Conv2d(3, D, sizes.patch_size, stride=sizes.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(D))
        self.positional_embedding = nn.Parameter(
            torch.empty((config.num_frames, N, D) if joint else (N, D))
        )
        self.ln_pre = nn.LayerNorm(D)
        self.blocks = nn.ModuleList(VisionBlock(config, i) for i in range(sizes.vision_layers))
        self.ln_post = nn.LayerNorm(D)
        self.proj = nn.Parameter(torch.empty(D, sizes.embed_dim))
        self.activation_checkpointing = False
        self.compiler: Compiler | None = None

    def forward(self, video: Tensor, *, selections: bool = False) -> VisionOutput:
        """Video (B, T, 3, height, width), normalised -> frames (B, T, d), not normalised; the
        context layers' projected context tokens, each (B, k, d); if `selections` and if there is
        context, one selection for each layer."""
        x = self.embed(video)
        context, matching = None, self._matching(x)
        contexts: list[Tensor] = []
        collected: list[LayerSelection] = []
        last = len(self.blocks)
        run = self.compiler or eagerly
        for layer, block in enumerate(self.blocks, start=1):
            if layer == last:
                assert isinstance(block, VisionBlock)
                wanted = selections or last in self.context_layers
                x, context, selection = block.forward_last(
                    x, context, matching, run, with_context=wanted
                )
            else:
                x, context, selection = run_layer(
                    block, x, context, matching, run, recompute=self.activation_checkpointing
                )
            if layer in self.context_layers and context is not None:
                contexts.append(self._prompt_context(context))
            if selections and selection is not None:
                collected.append(selection)
        frames = self.project(x[:, :, 0])
        if self.context_layers and not self.config.uses_context:
            # No context tokens to prompt with: the frames' CLS tokens take their place.
            z = frames.detach() if self.config.prompt_stop_grad else frames
            contexts = [z] * len(self.context_layers)
        return frames, tuple(contexts), tuple(collected)

    def _matching(self, x: Tensor) -> Matching | None:
        config = self.config
        if not config.uses_context or config.aggregation != "bipartite":
            return None
        B, n, k = x.shape[0], x.shape[1] * config.seeds_per_frame, config.context_tokens
        kernels = kernel_match(x, n, merge_steps(n, k, config.merge_step))
        return kernels or merge_tables((B, n), k, config.merge_step, x)

    def embed(self, video: Tensor) -> Tensor:
        """Video (B, T, 3, height, width) -> tokens (B, T, N, D) that enter the first layer."""
        B, T = video.shape[:2]
        patches = F.linear(self._pixels(video), self.conv1.weight.flatten(1))
        cls = self.class_embedding.to(patches.dtype).expand(B, T, 1, -1)
        x: Tensor = self.ln_pre(torch.cat([cls, patches], dim=2) + self.positional_embedding)
        return x

    def _pixels(self, video: Tensor) -> Tensor:
        """The pixels of each patch, (B, T, P, 3 * patch height * patch width).

        A linear layer on them is the convolution, which is slow in bf16 on a GPU and in TF32 there
        by default.
        """
        size, sides = self.config.sizes.patch_size, self.config.sizes.image_size
        sides -= sides % size
        rows = video[..., :sides, :sides].unflatten(-1, (-1, size)).unflatten(-3, (-1, size))
        pixels: Tensor = rows.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)
        return pixels

    def project(self, x: Tensor) -> Tensor:
        """Into the joint embedding, (..., D) -> (..., d)."""
        return full_precision(self.ln_post(x) @ self.proj)

    def _prompt_context(self, context: Tensor) -> Tensor:
        """Context (B, k, D) as the prompts use it, (B, k, d): by default without gradient, so
        that the projection learns from the frames alone."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.prompt_stop_grad):
            return self.project(context)
