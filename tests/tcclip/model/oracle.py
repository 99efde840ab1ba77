"""TC-CLIP as SPEC 2 says it, line by line, with nothing shared, fused or batched cleverly.

The tests' reference, to which `agree` and `gradients_agree` hold a model, and the benchmark's
baseline. It reads a `Model`'s parameters by name and uses none of its code. Sequences are
(B, T*N + k, D), frame tokens first; text runs whole for every video and class.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from tcclip.model import Model


@dataclass
class OracleOutput:
    logits: Tensor
    frame_features: Tensor
    context_tokens: list[Tensor] = field(default_factory=list)
    assignments: list[Tensor] = field(default_factory=list)
    seeds: list[Tensor] = field(default_factory=list)


class Oracle:
    """`Oracle(model)(video)`: tc_clip with bipartite merging, or the frame by frame models."""

    def __init__(self, model: Model) -> None:
        self.p = dict(model.named_parameters())
        self.config = model.config
        ids = torch.cat(
            [model.class_prefix.expand(len(model.class_names), -1), model.class_suffix], dim=1
        )
        # Padded to the full text length, as published.
        self.ids = F.pad(ids, (0, model.config.text_length - ids.shape[1]))

    def __call__(self, video: Tensor) -> OracleOutput:
        frames, contexts, assignments, seeds = self.vision(video)
        feature = F.normalize(frames.mean(1), dim=-1)
        logits = []
        for b in range(video.shape[0]):
            text = self.text([z[b] for z in contexts])
            logits.append(self.p["logit_scale"].exp() * text @ feature[b])
        return OracleOutput(torch.stack(logits), frames, contexts, assignments, seeds)

    # ---- Layers ----

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"])

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"], eps=1e-5
        )

    def mlp(self, x: Tensor, name: str) -> Tensor:
        h = self.linear(x, f"{name}.c_fc")
        return self.linear(h * torch.sigmoid(1.702 * h), f"{name}.c_proj")

    def project(self, x: Tensor, name: str, which: int, heads: int) -> Tensor:
        """One of Q, K, V (which = 0, 1, 2): (B, S, D) -> (B, heads, S, D / heads)."""
        weight = self.p[f"{name}.in_proj_weight"].chunk(3)[which]
        bias = self.p[f"{name}.in_proj_bias"].chunk(3)[which]
        return F.linear(x, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)

    def attend(self, weights: Tensor, v: Tensor, name: str) -> Tensor:
        return self.linear((weights @ v).transpose(1, 2).flatten(2), f"{name}.out_proj")

    # ---- Vision ----

    def vision(self, video: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        B, T = video.shape[:2]
        sizes, config = self.config.sizes, self.config
        x = F.conv2d(video.flatten(0, 1), self.p["vision.conv1.weight"], stride=sizes.patch_size)
        x = x.flatten(2).transpose(1, 2)
        N, D = x.shape[1] + 1, x.shape[2]
        cls = self.p["vision.class_embedding"].expand(B * T, 1, D)
        x = torch.cat([cls, x], dim=1).reshape(B, T, N, D)
        x = self.norm(x + self.p["vision.positional_embedding"], "vision.ln_pre")
        x = x.reshape(B, T * N, D)
        contexts: dict[int, Tensor] = {}
        assignments, seeds = [], []
        for i in range(sizes.vision_layers):
            x, assignment, chosen = self.vision_layer(x, i, T, N)
            if config.frame_attention == "context":
                contexts[i + 1] = x[:, T * N :]
                assignments.append(assignment)
                seeds.append(chosen)
        frames = self.leave(x[:, : T * N].reshape(B, T, N, D)[:, :, 0])
        tapped = []
        if config.name == "tc_clip" and config.video_prompting:
            tapped = [
                self.leave(contexts[layer]) if contexts else frames
                for layer in config.prompt_layers
            ]
            tapped = [z.detach() if config.prompt_stop_grad else z for z in tapped]
        return frames, tapped, assignments, seeds

    def leave(self, x: Tensor) -> Tensor:
        return self.norm(x, "vision.ln_post") @ self.p["vision.proj"]

    def vision_layer(self, x: Tensor, i: int, T: int, N: int) -> tuple[Tensor, Tensor, Tensor]:
        name = f"vision.blocks.{i}"
        B, D = x.shape[0], x.shape[2]
        heads = self.config.sizes.vision_heads
        h = self.norm(x, f"{name}.ln_1")
        q = self.project(h[:, : T * N], f"{name}.attn", 0, heads)
        k = self.project(h, f"{name}.attn", 1, heads)
        v = self.project(h, f"{name}.attn", 2, heads)
        outputs, cls_rows = [], []
        for t in range(T):
            weights = self.frame_weights(q, k, t, T, N, f"{name}.bias_table")
            values = torch.cat([v[:, :, t * N : (t + 1) * N], v[:, :, T * N :]], dim=2)
            outputs.append(self.attend(weights, values, f"{name}.attn"))
            cls_rows.append(weights[:, :, 0, 1:N].mean(1))
        frames = x[:, : T * N] + torch.cat(outputs, dim=1)
        context = x[:, :0]
        assignment = chosen = torch.empty(0)
        if self.config.frame_attention == "context":
            context, assignment, chosen = self.contextualise(
                frames.reshape(B, T, N, D), torch.stack(cls_rows, dim=1)
            )
        x = torch.cat([frames, context], dim=1)
        return x + self.mlp(self.norm(x, f"{name}.ln_2"), f"{name}.mlp"), assignment, chosen

    def frame_weights(self, q: Tensor, k: Tensor, t: int, T: int, N: int, table: str) -> Tensor:
        """Softmax of frame t's queries over its own tokens and the context."""
        local = k[:, :, t * N : (t + 1) * N]
        keys = torch.cat([local, k[:, :, T * N :]], dim=2)
        scores = q[:, :, t * N : (t + 1) * N] @ keys.transpose(2, 3) * q.shape[-1] ** -0.5
        if table in self.p:
            bias = self.p[table]
            columns = [bias[:, :, :1]] * N + [bias[:, :, 1:]] * (keys.shape[2] - N)
            scores = scores + torch.cat(columns, dim=2)
        return scores.softmax(-1)

    def contextualise(self, frames: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """frames (B, T, N, D), scores (B, T, P) -> context (B, k, D), assignment, seeds."""
        B, T, N, _ = frames.shape
        P = N - 1
        S = int(P * self.config.seed_ratio)
        chosen = scores.sort(dim=-1, descending=True, stable=True).indices[..., :S]
        contexts = []
        assignments = torch.full((B, T * P), -1, device=frames.device)
        for b in range(B):
            tokens = torch.cat([frames[b, t, 1:][chosen[b, t]] for t in range(T)])
            context, owner = self.merge(tokens)
            contexts.append(context)
            for t in range(T):
                assignments[b, t * P + chosen[b, t]] = owner[t * S : (t + 1) * S]
        return torch.stack(contexts), assignments, chosen

    def merge(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Bipartite soft matching of one video's seeds (n, D) -> (k, D), and the owners (n,)."""
        n, k, r = len(tokens), self.config.context_tokens, self.config.merge_step
        steps = []
        for _ in range((n - k) // r):
            steps.append(min(r, n // 2))
            n -= steps[-1]
        while n > k:
            steps.append(min(n - k, n // 2))
            n -= steps[-1]
        size = torch.ones(len(tokens), 1, dtype=tokens.dtype, device=tokens.device)
        # Which originals each current token holds, as a 0-1 matrix.
        holds = torch.eye(len(tokens), device=tokens.device)
        for step in steps:
            unit = tokens.detach() / tokens.detach().norm(dim=-1, keepdim=True)
            best, partner = (unit[0::2] @ unit[1::2].T).max(dim=1)
            order = best.sort(descending=True, stable=True).indices
            gone, rest = order[:step], order[step:]
            into = partner[gone]
            total = tokens * size
            sums, sizes, held = total[1::2], size[1::2], holds[1::2]
            sums = sums.index_add(0, into, total[0::2][gone])
            sizes = sizes.index_add(0, into, size[0::2][gone])
            held = held.index_add(0, into, holds[0::2][gone])
            tokens = torch.cat([tokens[0::2][rest], sums / sizes])
            size = torch.cat([size[0::2][rest], sizes])
            holds = torch.cat([holds[0::2][rest], held])
        return tokens, holds.argmax(0)

    # ---- Text ----

    def text(self, contexts: list[Tensor]) -> Tensor:
        """Class features (n, d) for one video with context tokens (k, d) a prompted layer."""
        p, sizes = self.p, self.config.sizes
        x = p["text.token_embedding.weight"][self.ids]
        m = 0
        if "text.prompt_vectors" in p:
            m = len(p["text.prompt_vectors"])
            prompts = p["text.prompt_vectors"].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], prompts, x[:, 1 + m :]], dim=1)
        L = x.shape[1]
        x = x + p["text.positional_embedding"][:L]
        mask = torch.full((L, L), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        for i in range(sizes.text_layers):
            if contexts and i + 1 in self.config.prompt_layers:
                at = self.config.prompt_layers.index(i + 1)
                new = self.prompt(x[:, 1 : 1 + m], contexts[at], f"text.prompters.{at}")
                x = torch.cat([x[:, :1], new, x[:, 1 + m :]], dim=1)
            name, heads = f"text.blocks.{i}", sizes.text_heads
            h = self.norm(x, f"{name}.ln_1")
            q, k, v = (self.project(h, f"{name}.attn", which, heads) for which in range(3))
            scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + mask
            x = x + self.attend(scores.softmax(-1), v, f"{name}.attn")
            x = x + self.mlp(self.norm(x, f"{name}.ln_2"), f"{name}.mlp")
        x = self.norm(x, "text.ln_final")[torch.arange(len(x)), self.ids.argmax(-1)]
        return F.normalize(x @ p["text.text_projection"], dim=-1)

    def prompt(self, c: Tensor, z: Tensor, name: str) -> Tensor:
        """VP: prompts c (n, m, d) ask the context tokens z (k, d)."""
        heads = self.config.sizes.text_heads
        q = self.project(self.norm(c, f"{name}.ln_1"), f"{name}.attn", 0, heads)
        h = self.norm(z, f"{name}.ln_1_kv").expand(len(c), -1, -1)
        k, v = (self.project(h, f"{name}.attn", which, heads) for which in (1, 2))
        weights = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)
        c = c + self.attend(weights, v, f"{name}.attn")
        return c + self.mlp(self.norm(c, f"{name}.ln_2"), f"{name}.mlp")


# ---- The comparison ----


def agree(model: Model, video: Tensor) -> None:
    """AssertionError unless the model chooses and computes what the transcription does."""
    expected = Oracle(model)(video)
    output = model(video, intermediates=True)
    seen = output.intermediates
    for found, wanted in zip(seen.seeds, expected.seeds, strict=True):
        assert torch.equal(found, wanted)
    for found, wanted in zip(seen.assignments, expected.assignments, strict=True):
        assert torch.equal(found, wanted)
    torch.testing.assert_close(seen.frame_features, expected.frame_features)
    torch.testing.assert_close(output.logits, expected.logits)
    for at, tokens in enumerate(expected.context_tokens):
        torch.testing.assert_close(seen.context_tokens[:, at], tokens)


def gradients_agree(model: Model, video: Tensor) -> None:
    """The same of every gradient of a weighted sum of the logits of two videos."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    weights = torch.tensor([[1.0, -2.0, 0.5, 0.3], [-1.0, 0.1, 0.7, 2.0]])
    target = weights.repeat(1, len(model.class_names) // 4).to(video)
    expected = torch.autograd.grad((Oracle(model)(video).logits * target).sum(), trained.values())
    found = torch.autograd.grad((model(video).logits * target).sum(), trained.values())
    for name, a, b in zip(trained, found, expected, strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, name=name: f"{name}: {m}")
