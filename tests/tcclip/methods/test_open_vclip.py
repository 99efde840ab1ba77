"""Open-VCLIP: its attention is what its paper describes, its gradient that of the paper's loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tcclip import methods
from tcclip.data.loader import Batch
from tcclip.methods.open_vclip import OpenVclipSettings, gradients_at
from tcclip.model import Model, build_model, create_model, load_checkpoint
from tcclip.model.checkpoints import describe
from tcclip.step import soft_target_loss
from tests.tcclip.model.builders import NAMES, SMALL, small_video
from tests.tcclip.model.oracle import Oracle
from tests.tcclip.test_step import chunks_of, gradients, step_gradient
from tests.tcclip.weights.made import openai_state

DOUBLE = torch.float64


def open_vclip(seed: int = 0, **settings: Any) -> Model:
    """A small model with every parameter stirred."""
    config = {"name": "open_vclip", "geometry": SMALL, "num_frames": 4, "text_length": 20}
    model = build_model(methods.settings(config | settings), NAMES, seed=seed).to(DOUBLE)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                drawn = torch.randn(parameter.shape, generator=generator, dtype=DOUBLE)
                parameter.add_(0.1 * drawn)
    return model


class Described(Oracle):
    """The attention as described: token by token, over a list of the keys it may see."""

    def attention(self, x: Tensor, name: str) -> Tensor:
        """Tokens (B, T, N, D), normalised -> what attention adds to them."""
        B, T, N, D = x.shape
        heads = self.config.sizes.vision_heads
        q, k, v = (self.project(x.flatten(1, 2), name, i, heads) for i in range(3))
        q, k, v = (one.unflatten(2, (T, N)) for one in (q, k, v))  # (B, heads, T, N, E)
        rows = []
        for t in range(T):
            for token in range(N):
                seen = [(t, 0)]  # the frame's own CLS token
                for near in (t - 1, t, t + 1):
                    if 0 <= near < T:
                        seen += [(near, patch) for patch in range(1, N)]
                keys = torch.stack([k[:, :, f, n] for f, n in seen], dim=2)
                values = torch.stack([v[:, :, f, n] for f, n in seen], dim=2)
                scores = (keys @ q[:, :, t, token, :, None])[..., 0] / q.shape[-1] ** 0.5
                rows.append((scores.softmax(-1)[..., None] * values).sum(2))
        out = torch.stack(rows, dim=2).transpose(1, 2).flatten(2)
        return self.linear(out, f"{name}.out_proj").unflatten(1, (T, N))

    def frames(self, video: Tensor) -> Tensor:
        """Each frame's feature (B, T, d)."""
        sizes, (B, T) = self.config.sizes, video.shape[:2]
        x = torch.nn.functional.conv2d(
            video.flatten(0, 1), self.p["vision.conv1.weight"], stride=sizes.patch_size
        )
        x = x.flatten(2).transpose(1, 2)
        cls = self.p["vision.class_embedding"].expand(B * T, 1, -1)
        x = torch.cat([cls, x], dim=1) + self.p["vision.positional_embedding"]
        x = self.norm(x, "vision.ln_pre").unflatten(0, (B, T))
        for layer in range(sizes.vision_layers):
            name = f"vision.blocks.{layer}"
            x = x + self.attention(self.norm(x, f"{name}.ln_1"), f"{name}.attn")
            x = x + self.mlp(self.norm(x, f"{name}.ln_2"), f"{name}.mlp")
        return self.norm(x[:, :, 0], "vision.ln_post") @ self.p["vision.proj"]


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_the_attention_is_the_described_one(frames: int) -> None:
    model, video = open_vclip(), small_video(1, frames, dtype=DOUBLE)
    found, _, _ = model.vision(video)
    torch.testing.assert_close(found, Described(model).frames(video), rtol=1e-10, atol=1e-10)


def test_clips_weights_load_as_they_are_and_a_single_frame_is_vifi_clips() -> None:
    weights = openai_state()
    ours, vifi = (
        create_model(name, NAMES, clip_weights=weights, geometry=SMALL, num_frames=4)
        for name in ("open_vclip", "vifi_clip")
    )
    assert [name for name, _ in ours.named_parameters()] == [n for n, _ in vifi.named_parameters()]
    names = ["pull ups", "yoyo"]  # without an underscore, which ViFi-CLIP keeps
    for model in (ours, vifi):
        model.set_class_names(names)
    one, four = small_video(2, 1), small_video(2, 4)
    torch.testing.assert_close(ours(one).logits, vifi(one).logits)
    assert not torch.allclose(ours(four).logits, vifi(four).logits)


# ---- Interpolated weight optimization ----


def loss_at(model: Model, weights: dict[str, Tensor], chunks: list[Batch], augment: Any) -> Tensor:
    from tcclip.data.transforms import normalise

    total = torch.zeros((), dtype=DOUBLE)
    for batch in chunks:
        video = normalise(batch.video, augment).to(DOUBLE)
        logits = functional_call(model, weights, (video,)).logits
        targets = torch.nn.functional.one_hot(batch.labels, len(NAMES)).to(DOUBLE)
        smooth = 0.9 * targets + 0.1 / len(NAMES)
        total = total + soft_target_loss(logits, smooth)
    return total / sum(len(batch.labels) for batch in chunks)


def test_a_steps_gradient_is_that_of_the_papers_loss() -> None:
    model, clip = open_vclip(seed=1), open_vclip(seed=0)
    chunks = chunks_of(8, 4)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    gradient = step_gradient(model, videos=8, micro_batch=2, start=clip.state_dict())
    gradient(chunks, epoch=0, step=5)
    found = gradients(model)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())

    _, (share, c) = gradients_at(OpenVclipSettings(), 0, 5)
    assert 0 < share < 0.6 and c == 0.5
    own = dict(model.named_parameters())
    start = dict(clip.named_parameters())
    between = {n: x if n not in found else share * start[n].detach() + (1 - share) * x
               for n, x in own.items()}  # fmt: skip
    total = loss_at(model, own, chunks, gradient.augment)
    total = total + c / (1 - share) * loss_at(model, between, chunks, gradient.augment)
    names = list(found)
    expected = torch.autograd.grad(total, [own[name] for name in names])
    for name, one in zip(names, expected, strict=True):
        # Targets are float32.
        torch.testing.assert_close(found[name], one, rtol=1e-6, atol=1e-7, msg=name)


def test_the_shares_are_drawn_anew_and_again_the_same() -> None:
    shares = [gradients_at(OpenVclipSettings(), 0, step)[1][0] for step in range(400)]
    assert shares == [gradients_at(OpenVclipSettings(), 0, step)[1][0] for step in range(400)]
    assert 0 <= min(shares) < 0.02 and 0.58 < max(shares) < 0.6 and len(set(shares)) == 400
    assert gradients_at(OpenVclipSettings(), 1, 0) != gradients_at(OpenVclipSettings(), 0, 0)
    off = OpenVclipSettings(interpolation_weight=0)
    assert gradients_at(off, 0, 0) == ((0.0, 1.0),)


# ---- Its published weights ----


@pytest.mark.parametrize("wrap", ["model.", "module.model."])
def test_a_published_checkpoint_is_read(tmp_path: Path, wrap: str) -> None:
    weights = openai_state()
    state = {wrap + name: x for name, x in weights.items()}
    torch.save({"model_state": state, "epoch": 22, "cfg": "TRAIN: {}"}, tmp_path / "swa.pth")
    shown = describe(tmp_path / "swa.pth")
    assert (shown["holds"], shown["model"]["name"]) == ("published Open-VCLIP", "open_vclip")
    model = create_model("open_vclip", NAMES, geometry=SMALL, num_frames=4)
    load_checkpoint(model, tmp_path / "swa.pth")
    assert torch.equal(model.vision.proj, weights["visual.proj"])
    fresh = create_model("open_vclip", NAMES, clip_weights=weights, geometry=SMALL, num_frames=4)
    assert torch.equal(model(small_video()).logits, fresh(small_video()).logits)
