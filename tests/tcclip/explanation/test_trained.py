"""Where a trained model looks: at what moves, not at what is behind it."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tcclip.config import Geometry, ModelConfig
from tcclip.explanation.attention import LayerView, encode
from tcclip.model import Model, build_model

T, SIDE, PATCH = 4, 32, 8
COLOURS = {"red": (2.0, -1, -1), "green": (-1, 2.0, -1), "blue": (-1, -1, 2.0), "white": (2, 2, 2)}
TINY = Geometry(
    image_size=SIDE, patch_size=PATCH, vision_width=32, vision_layers=2, vision_heads=4,
    text_width=32, text_layers=2, text_heads=4, embed_dim=32,
)  # fmt: skip


def clips(labels: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """A bright square of a patch's size that moves over a dark, still, uneven background, patch by
    patch: videos (B, T, 3, 32, 32) and where the square is (B, T, P)."""
    rng = np.random.default_rng(seed)
    videos, places = [], []
    for label in labels:
        background = rng.normal(-1, 0.4, (3, SIDE, SIDE)).repeat(T).reshape(3, SIDE, SIDE, T)
        video = background.transpose(3, 0, 1, 2).copy()
        row, column, step = rng.integers(4), rng.integers(4), rng.choice([-1, 1])
        place = np.zeros((T, 4, 4), bool)
        for t in range(T):
            y, x = row * PATCH, (column + step * t) % 4 * PATCH
            video[t, :, y : y + PATCH, x : x + PATCH] = np.reshape(
                list(COLOURS.values())[label], (3, 1, 1)
            )
            place[t, row, (column + step * t) % 4] = True
        videos.append(video)
        places.append(place.reshape(T, -1))
    return torch.tensor(np.stack(videos), dtype=torch.float32), torch.tensor(np.stack(places))


@pytest.fixture(scope="module")
def trained() -> Model:
    config = ModelConfig(
        geometry=TINY, num_frames=T, context_tokens=4, merge_step=4, prompt_layers=(2,),
        text_length=16, seed_ratio=0.2,
    )  # fmt: skip
    model = build_model(config, [f"a {colour} square" for colour in COLOURS])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(60):
        labels = [(step + i) % len(COLOURS) for i in range(16)]
        loss = F.cross_entropy(model(clips(labels, step)[0]).logits, torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def views(model: Model, video: Tensor) -> tuple[LayerView, ...]:
    with torch.no_grad():
        return encode(model, video)[1]


def test_a_moving_square_draws_more_attention_than_its_still_background(trained: Model) -> None:
    labels = [0, 1, 2, 3] * 2
    videos, places = clips(labels, seed=1000)
    with torch.no_grad():
        said = trained(videos).logits.argmax(1)
    assert (said == torch.tensor(labels)).float().mean() >= 0.75
    for video, place in zip(videos, places.numpy(), strict=True):
        last = views(trained, video[None])[-1]
        assert last.heat[place].mean() > 1.5 * last.heat[~place].mean()
        # So it is chosen in every frame.
        chosen = np.zeros(place.shape, bool)
        np.put_along_axis(chosen, last.seeds, True, axis=1)
        assert chosen[place].all()
