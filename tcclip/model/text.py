"""The text tower with video-conditional prompting, each part computed once (SPEC 2.2).

Shape legend: B videos, n classes, p prefix tokens (start-of-text and m prompt vectors), s longest
suffix of the list (name, full stop, end-of-text), L tokens in all, k context tokens, D width,
H heads, E width of a head, d joint embedding. A is 1 while nothing depends on the video, then B.

Under the causal mask the prefix does not depend on the class name. So the tokens (A, L, D) are
one prefix and then the suffixes of all classes in a row, shorter ones first, padded only to the
longest of their bucket (`Prompts`). Prompting changes the prefix alone. In the last layer only
the end-of-text token is a query: its attention over what the video does not change is kept as
one value and one log-sum-exp for each head (`EndOfText`), and each video's prompts are added to it.
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
    `tokens` (1, L, D) that enter the first prompted layer; if that layer is also the last, only
    the prefix (1, p, D), and `end_of_text`, whose classes are in the order of `prompts`.
    """

    prompts: Prompts
    tokens: Tensor
    features: Tensor | None = None
    end_of_text: EndOfText | None = None

    def detached(self) -> ClassFeatures:
        """The same values, on which the gradients of all that is computed from them add up."""
        return cast(ClassFeatures, _copy(self))

    def backward(self, detached: ClassFeatures) -> None:
        """Take what has added up on `detached` back to the parameters, in one backward pass."""
        pairs = zip(_tensors(self), _tensors(detached), strict=True)
        parts = [(mine * copy.grad).sum() for mine, copy in pairs if copy.grad is not None]
        # The same gradients bit for bit as torch.autograd.backward gives with `grad_tensors`, which
        # imports sympy for it: a second of a core in every worker.
        if parts:
            torch.stack(parts).sum().backward()


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
    """One CLIP text layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, heads = config.sizes.text_width, config.sizes.text_heads
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, config.activation)

    def forward(self, x: Tensor, prompts: Prompts, masks: list[Tensor]) -> Tensor:
        """Tokens (A, L, D) -> the same, one layer on. `masks`: `suffix_masks` of the prompts."""
        qkv = self.attn.packed(self.ln_1(x))
        prefix, *suffixes = qkv.split(_parts(prompts), dim=1)
        parts = [attend(*prefix.unbind(2), causal=True)]
        shared = prefix[:, None, :, 1:]
        for part, (n, s), mask in zip(suffixes, prompts.buckets, masks, strict=True):
            own = part.unflatten(1, (n, s))
            keys_values = torch.cat([shared.expand(-1, n, *[-1] * 4), own[:, :, :, 1:]], dim=2)
            k, v = keys_values.flatten(0, 1).unbind(2)
            attended = attend(own[:, :, :, 0].flatten(0, 1), k, v, mask)
            parts.append(attended.reshape(x.shape[0], n * s, *attended.shape[2:]))
        return self._ffn(x + self.attn.merge_heads(torch.cat(parts, dim=1)))

    def attend_end_of_text(self, x: Tensor, prompts: Prompts) -> EndOfText:
        """The end-of-text query of every class, on the start token and its suffix only; x is
        (A, L, D), the classes in the result are in the order of `prompts`."""
        start, suffix, eot = x[:, :1], _padded(x, prompts), prompts.eot[prompts.order]
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


def _parts(prompts: Prompts) -> list[int]:
    """How many of the L tokens are the prefix, and each bucket's suffixes."""
    return [prompts.prefix.shape[0], *(n * s for n, s in prompts.buckets)]


def suffix_masks(prompts: Prompts, like: Tensor) -> list[Tensor]:
    """For each bucket what is added to the scores (s, p + s) of its suffixes: a token attends to
    the prefix and, within its suffix, to itself and what stands before it."""
    p = prompts.prefix.shape[0]
    return [like.new_full((s, p + s), float("-inf")).triu(p + 1) for _, s in prompts.buckets]


def _padded(x: Tensor, prompts: Prompts) -> Tensor:
    """The suffixes of x (A, L, D), all as long as the longest, (A, n, s, D)."""
    _, *suffixes = x.split(_parts(prompts), dim=1)
    longest = prompts.buckets[-1][1]
    return torch.cat(
        [
            F.pad(own.unflatten(1, (n, s)), (0, 0, 0, longest - s))
            for own, (n, s) in zip(suffixes, prompts.buckets, strict=True)
        ],
        dim=1,
    )


class _Reordered(torch.autograd.Function):
    """x (A, n, d) at a permutation of its n rows. Both directions are look-ups, while an index's
    own backward is a scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(1, inverse), None, None


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
        # Not drawn from a normal distribution first: on "meta" that imports torch's reference
        # implementations, which takes longer than to load a model.
        empty = torch.empty(sizes.vocab_size, width)
        self.token_embedding = nn.Embedding.from_pretrained(empty)  # not trained
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
        x = self._embed(prompts)
        last = len(self.blocks)
        first = min(self.prompt_layers, default=last)
        masks = suffix_masks(prompts, x)
        for layer in range(1, first):
            x = self._run_block(layer, x, prompts, masks)
        if first < last:
            return ClassFeatures(prompts, x)
        block, p = self._layer(last), prompts.prefix.shape[0]
        end_of_text = block.attend_end_of_text(x, prompts)
        features = None
        if not self.prompt_layers:
            tokens = block.finish_with_prompts(end_of_text, x[:, 1:p])
            features = self._project(tokens, prompts)[0]
        return ClassFeatures(prompts, x[:, :p], features, end_of_text)

    def condition(self, classes: ClassFeatures, contexts: tuple[Tensor, ...]) -> Tensor:
        """Class features of each video, normalised, (B, n, d), or (1, n, d) if they are shared.

        `contexts`: one (B, k, D) for each prompted layer.
        """
        if classes.features is not None:
            return classes.features.unsqueeze(0)
        x, prompts, end_of_text = classes.tokens, classes.prompts, classes.end_of_text
        last, p = len(self.blocks), prompts.prefix.shape[0]
        block = self._layer(last)
        if end_of_text is None:
            masks = suffix_masks(prompts, x)
            for layer in range(min(self.prompt_layers), last):
                if layer in self.prompt_layers:
                    new = self._prompt(layer, x[:, 1:p], contexts)
                    start, rest = (one.expand(new.shape[0], -1, -1) for one in (x[:, :1], x[:, p:]))
                    x = torch.cat([start, new, rest], dim=1)
                x = self._run_block(layer, x, prompts, masks)
            end_of_text = block.attend_end_of_text(x, prompts)
        vectors = x[:, 1:p]
        if last in self.prompt_layers:
            vectors = self._prompt(last, vectors, contexts)
        return self._project(block.finish_with_prompts(end_of_text, vectors), prompts)

    def _embed(self, prompts: Prompts) -> Tensor:
        """The tokens (1, L, D) that enter the first layer."""
        prefix = self.token_embedding(prompts.prefix)
        if self.prompt_vectors is not None:
            prefix = torch.cat([prefix[:1], self.prompt_vectors])
        p, positions = prefix.shape[0], self.positional_embedding
        tokens = self.token_embedding(prompts.suffix[prompts.order])
        parts = [prefix + positions[:p]]
        for own, (n, s) in zip(
            tokens.split([n for n, _ in prompts.buckets]), prompts.buckets, strict=True
        ):
            parts.append((own[:, :s] + positions[p : p + s]).view(n * s, -1))
        return torch.cat(parts).unsqueeze(0)

    def _layer(self, layer: int) -> TextBlock:
        return cast(TextBlock, self.blocks[layer - 1])

    def _run_block(self, layer: int, x: Tensor, prompts: Prompts, masks: list[Tensor]) -> Tensor:
        out: Tensor = run_layer(
            self._layer(layer), x, prompts, masks, recompute=self.activation_checkpointing
        )
        return out

    def _prompt(self, layer: int, vectors: Tensor, contexts: tuple[Tensor, ...]) -> Tensor:
        """The prompt vectors (A, m, D) as they enter a prompted layer, for each video (B, m, D)."""
        at = self.prompt_layers.index(layer)
        out: Tensor = self.prompters[at](vectors, contexts[at])
        return out

    def _project(self, tokens: Tensor, prompts: Prompts) -> Tensor:
        """End-of-text tokens (A, n, D), in the order of `prompts` -> normalised features
        (A, n, d), in the order of the class list."""
        features = F.normalize(full_precision(self.ln_final(tokens) @ self.text_projection), dim=-1)
        if len(prompts.buckets) == 1:
            return features
        ordered: Tensor = _Reordered.apply(features, prompts.rank, prompts.order)
        return ordered
