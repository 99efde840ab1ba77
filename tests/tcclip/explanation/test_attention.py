"""What the CLS tokens attend to, held to a computation that takes one weight at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tcclip.explanation.attention import encode
from tcclip.model import Model
from tests.tcclip.model.builders import small_model, small_video

T, N = 4, 17
KINDS = ("none", "cls", "window", "joint", "context")


def seen(model: Model, video: Tensor) -> Any:
    with torch.no_grad():
        return encode(model.eval(), video)


def allowed(kind: str, query: int, frame: int, token: int) -> bool:
    """Whether the CLS token of frame `query` has that token among its keys (SPEC 2.1, 2.3)."""
    if query == frame or kind == "joint":
        return True
    if kind == "cls":
        return token == 0
    return kind == "window" and token > 0 and abs(query - frame) == 1


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_cls_attention_of_every_kind_one_weight_at_a_time(kind: str) -> None:
    model = small_model(frame_attention=kind, video_prompting=False, dtype=torch.float64)
    video = small_video(1, dtype=torch.float64)
    _, layers = seen(model, video)
    vision, context = model.vision, None
    x = vision.embed(video)
    for block, view in zip(vision.blocks, layers, strict=True):
        tokens = block.ln_1(x)[0]
        extra = [] if context is None else list(block.ln_1(context)[0])
        q = block.attn.queries(tokens[:, 0])
        k = {(u, n): block.attn.keys_values(tokens[u, n])[0] for u in range(T) for n in range(N)}
        extra_keys = [block.attn.keys_values(one)[0] for one in extra]
        for t in range(T):
            where = [(u, n) for u in range(T) for n in range(N) if allowed(kind, t, u, n)]
            keys = torch.stack([*(k[one] for one in where), *extra_keys])
            scores = torch.einsum("he,mhe->hm", q[t], keys) / q.shape[-1] ** 0.5
            if block.bias_table is not None:
                bias = block.bias_table[:, 0]
                scores += torch.stack([bias[:, 0]] * N + [bias[:, 1]] * len(extra), dim=1)
            weights = scores.softmax(-1).mean(0).numpy()
            expected = np.zeros((T, N))
            for (u, n), weight in zip(where, weights, strict=False):
                expected[u, n] = weight
            np.testing.assert_allclose(view.to_frames[t], expected, atol=1e-12)
            np.testing.assert_allclose(view.to_context[t], weights[len(where) :], atol=1e-12)
        x, context, _ = block(x, context)
    assert view.to_context.shape == (T, 5 if kind == "context" else 0)
    shares = view.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert (shares["other frames"] > 0.01) == (kind in ("cls", "window", "joint"))
    assert (shares["context tokens"] > 0.01) == (kind == "context")


@pytest.mark.parametrize("settings", [{}, {"prompt_layers": (1, 3)}, {"video_prompting": False}])
def test_what_was_chosen_and_merged_is_the_models_own(settings: dict[str, Any]) -> None:
    model = small_model(**settings)
    video = small_video(1)
    features, layers = seen(model, video)
    plain = model.encode_video(video, intermediates=True)
    assert torch.equal(features.feature, plain.feature)
    for layer, view in enumerate(layers):
        assert np.array_equal(view.seeds, plain.intermediates.seeds[layer][0])
        owners = plain.intermediates.assignments[layer].view(T, N - 1)
        assert np.array_equal(view.groups, owners)
        scores = plain.intermediates.cls_attention[layer][0].mean(1)
        np.testing.assert_allclose(view.heat, scores.detach(), atol=1e-6)
        # The seeds are where the heat is.
        assert np.array_equal(view.seeds, np.argsort(-view.heat, kind="stable")[:, :4])
        sizes = [int((view.groups == one).sum()) for one in view.biggest_groups(3)]
        assert sizes == sorted(np.bincount(owners[owners >= 0]), reverse=True)[:3]


def test_the_model_is_left_as_it_was() -> None:
    model = small_model()
    with pytest.raises(ValueError, match="this model takes"):
        seen(model, small_video(1, size=24))
    seen(model, small_video(1))
    assert not any(module._forward_hooks for module in model.modules())
