"""The text tower with video-conditional prompting, each part computed once (SPEC 2.2).

Shape legend: B videos, n classes, p prefix tokens (start-of-text and m prompt vectors), s suffix
tokens (name, full stop, end-of-text, cut at the longest of the list), k context tokens, D width,
H heads, E width of a head, d joint embedding. A is 1 while nothing depends on the video, then B.

Under the causal mask the prefix does not depend on the class name, so it is kept apart,
(A, p, D), from the classes' suffixes, (A, n, s, D). Prompting changes the prefix alone. In the
last layer only the end-of-text token is a query: its attention over what the video does not
change is kept as one value and one log-sum-exp for each head (`EndOfText`), and each video's
prompts are added to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcclip.config import ModelConfig
from tcclip.model.layers import Attention, Mlp, attend, full_precision, no_autocast, run_layer
from tcclip.model.tokens import Prompts


@dataclass(frozen=True)
class EndOfText:
    """The last layer's end-of-text queries, after attention to everything but the prompts.

    residual (A, n, D); query and value (A, H, n, E); log_sum (A, H, n).
    """

    residual: Tensor
    query: Tensor
    value: Tensor
    log_sum: Tensor


@dataclass(frozen=True)
class ClassFeatures:
    """A class list, encoded as far as no video is needed; `Model.score` does the rest.

    `features` (n, d), normalised, if no prompt depends on the video, else None. Otherwise the
    tokens that enter the first prompted layer: prefix (1, p, D), suffix (1, n, s, D), the position
    of end-of-text in the suffix (n,), and `end_of_text` if that layer is also the last.
    """

    prefix: Tensor
    suffix: Tensor
    eot: Tensor
    features: Tensor | None = None
    end_of_text: EndOfText | None = None

    def detached(self) -> ClassFeatures:
        """The same values, on which the gradients of all that is computed from them add up."""
        return cast(ClassFeatures, _copy(self))

    def backward(self, detached: ClassFeatures) -> None:
        """Take what has added up on `detached` back to the parameters, in one backward pass."""
        pairs = zip(_tensors(self), _tensors(detached), strict=True)
        own = [(mine, copy.grad) for mine, copy in pairs if mine.requires_grad]
        torch.autograd.backward([mine for mine, _ in own], [gradient for _, gradient in own])


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        copy = value.detach().requires_grad_(value.requires_grad)
        if value.requires_grad:
            # In its own memory: what a CUDA graph returns is overwritten by its next run.
            copy.grad = torch.zeros_like(copy)
        return copy
    if isinstance(value, tuple):
        return tuple(map(_copy, value))
    if is_dataclass(value):
        return replace(cast(Any, value), **{name: _copy(one) for name, one in vars(value).items()})
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        yield from chain.from_iterable(map(_tensors, value))
    elif is_dataclass(value):
        yield from chain.from_iterable(map(_tensors, vars(value).values()))


class TextBlock(nn.Module):
    """One CLIP text layer on prefix and suffixes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, heads = config.sizes.text_width, config.sizes.text_heads
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, config.activation)

    def forward(self, prefix: Tensor, suffix: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix (A, p, D), suffix (A, n, s, D) -> the same, one layer on."""
        A, n, s, D = suffix.shape
        q, k, v = self.attn.qkv(self.ln_1(prefix))
        prefix = self._ffn(prefix + self.attn.merge_heads(attend(q, k, v, causal=True)))

        shared_k, shared_v = (x.unsqueeze(1).expand(-1, n, -1, -1, -1) for x in (k, v))
        q, k, v = self.attn.qkv(self.ln_1(suffix))
        k, v = torch.cat([shared_k, k], dim=2), torch.cat([shared_v, v], dim=2)
        # Causal: the suffixes are the last s positions; True where attention is allowed.
        keys = k.shape[2]
        mask = torch.ones(s, keys, dtype=torch.bool, device=suffix.device).tril(keys - s)
        attended = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mask)
        suffix = self._ffn(suffix + self.attn.merge_heads(attended).view(A, n, s, D))
        return prefix, suffix

    def attend_end_of_text(self, start: Tensor, suffix: Tensor, eot: Tensor) -> EndOfText:
        """The end-of-text query of every class, on the start token and its suffix only.

        start (A, 1, D), suffix (A, n, s, D), eot (n,).
        """
        n, s = suffix.shape[1:3]
        # Exact, and unlike a gather's its backward is no scatter.
        is_eot = (torch.arange(s, device=eot.device) == eot.unsqueeze(1)).unsqueeze(-1)
        residual = suffix.where(is_eot, 0).sum(2)
        h = self.ln_1(suffix)
        q = self.attn.queries(h.where(is_eot, 0).sum(2))
        k, v = self.attn.keys_values(h)
        first_k, first_v = self.attn.keys_values(self.ln_1(start))
        k = torch.cat([first_k.unsqueeze(1).expand(-1, n, -1, -1, -1), k], dim=2)
        v = torch.cat([first_v.unsqueeze(1).expand(-1, n, -1, -1, -1), v], dim=2)
        q, k, v = full_precision(q), full_precision(k), full_precision(v)
        with no_autocast(q):
            scores = torch.einsum("anhe,anmhe->ahnm", q, k) * q.shape[-1] ** -0.5
            after = torch.arange(s + 1, device=eot.device) > eot.unsqueeze(1) + 1
            scores = scores.masked_fill(after, float("-inf"))
            value = torch.einsum("ahnm,anmhe->ahne", scores.softmax(-1), v)
            return EndOfText(residual, q.transpose(1, 2), value, scores.logsumexp(-1))

    def finish_with_prompts(self, end_of_text: EndOfText, prompts: Tensor) -> Tensor:
        """Add attention to the prompts (A, m, D) and finish the layer -> (A, n, D).

        A may be 1 for one of them and B for the other.
        """
        k, v = self.attn.keys_values(self.ln_1(prompts))
        k, v = (full_precision(x).transpose(1, 2) for x in (k, v))
        with no_autocast(k):
            scores = end_of_text.query @ k.transpose(2, 3) * k.shape[-1] ** -0.5
            rest = end_of_text.log_sum.unsqueeze(-1).expand(*scores.shape[:-1], 1)
            weight = torch.cat([rest, scores], dim=-1).softmax(-1)
            attended = weight[..., :1] * end_of_text.value + weight[..., 1:] @ v
        return self._ffn(end_of_text.residual + self.attn.merge_heads(attended.transpose(1, 2)))

    def _ffn(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class VideoPrompter(nn.Module):
    """VP: prompts c attend to the video's context tokens z (SPEC 2.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, heads = config.sizes.text_width, config.sizes.text_heads
        self.ln_1 = nn.LayerNorm(width)
        self.ln_1_kv = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, config.activation)

    def forward(self, prompts: Tensor, context: Tensor) -> Tensor:
        """Prompts (A, m, D), context (B, k, D) -> prompts of each video (B, m, D)."""
        B = context.shape[0]
        q = self.attn.queries(self.ln_1(prompts)).expand(B, -1, -1, -1)
        k, v = self.attn.keys_values(self.ln_1_kv(context))
        prompts = prompts + self.attn.merge_heads(attend(q, k, v))
        out: Tensor = prompts + self.mlp(self.ln_2(prompts))
        return out


class TextTower(nn.Module):
    """Class names to features, conditioned on the video where layers are prompted."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = config.sizes
        width = sizes.text_width
        self.prompt_layers = config.prompted_layers
        self.token_embedding = nn.Embedding(sizes.vocab_size, width)
        self.token_embedding.weight.requires_grad_(False)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context_length, width))
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(sizes.text_layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, sizes.embed_dim))
        vectors = torch.empty(config.prompt_length, width) if self.prompt_layers else None
        self.prompt_vectors = None if vectors is None else nn.Parameter(vectors)
        self.prompters = nn.ModuleList(VideoPrompter(config) for _ in self.prompt_layers)
        self.activation_checkpointing = False

    def encode(self, prompts: Prompts) -> ClassFeatures:
        """Everything that needs no video. Differentiable where gradients are enabled."""
        prefix, suffix = self._embed(prompts)
        last = len(self.blocks)
        first = min(self.prompt_layers, default=last)
        for layer in range(1, first):
            prefix, suffix = self._run_block(layer, prefix, suffix)
        features = end_of_text = None
        if first == last:
            block = self._layer(last)
            end_of_text = block.attend_end_of_text(prefix[:, :1], suffix, prompts.eot)
            if not self.prompt_layers:
                tokens = block.finish_with_prompts(end_of_text, prefix[:, 1:])
                features = self._project(tokens)[0]
        return ClassFeatures(prefix, suffix, prompts.eot, features, end_of_text)

    def condition(self, classes: ClassFeatures, contexts: tuple[Tensor, ...]) -> Tensor:
        """Class features of each video, normalised, (B, n, d), or (1, n, d) if they are shared.

        `contexts`: one (B, k, D) for each prompted layer.
        """
        if classes.features is not None:
            return classes.features.unsqueeze(0)
        prefix, suffix = classes.prefix, classes.suffix
        B, last = contexts[0].shape[0], len(self.blocks)
        for layer in range(min(self.prompt_layers), last):
            prefix = self._prompt(layer, prefix, contexts)
            prefix, suffix = self._run_block(layer, prefix, suffix.expand(B, -1, -1, -1))
        block = self._layer(last)
        end_of_text = classes.end_of_text
        if end_of_text is None:
            end_of_text = block.attend_end_of_text(prefix[:, :1], suffix, classes.eot)
        prefix = self._prompt(last, prefix, contexts)
        return self._project(block.finish_with_prompts(end_of_text, prefix[:, 1:]))

    def _embed(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        prefix = self.token_embedding(prompts.prefix)
        if self.prompt_vectors is not None:
            prefix = torch.cat([prefix[:1], self.prompt_vectors])
        p, s = prefix.shape[0], prompts.suffix.shape[1]
        suffix = self.token_embedding(prompts.suffix) + self.positional_embedding[p : p + s]
        return (prefix + self.positional_embedding[:p]).unsqueeze(0), suffix.unsqueeze(0)

    def _layer(self, layer: int) -> TextBlock:
        return cast(TextBlock, self.blocks[layer - 1])

    def _run_block(self, layer: int, prefix: Tensor, suffix: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = run_layer(
            self._layer(layer), prefix, suffix, recompute=self.activation_checkpointing
        )
        return out

    def _prompt(self, layer: int, prefix: Tensor, contexts: tuple[Tensor, ...]) -> Tensor:
        """Prefix (A, p, D) as it enters `layer`: (B, p, D) with new prompts if it is prompted."""
        if layer not in self.prompt_layers:
            return prefix
        at = self.prompt_layers.index(layer)
        prompts = self.prompters[at](prefix[:, 1:], contexts[at])
        return torch.cat([prefix[:, :1].expand(prompts.shape[0], -1, -1), prompts], dim=1)

    def _project(self, tokens: Tensor) -> Tensor:
        """End-of-text tokens (A, n, D) -> normalised features (A, n, d)."""
        return F.normalize(full_precision(self.ln_final(tokens) @ self.text_projection), dim=-1)
