"""Every choice the paper ablates is a setting, does what it says, and can be trained."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tcclip.model import Model, build_model
from tcclip.model.frame_attention import attend_frames, frame_keys
from tcclip.model.merging.assignment import assign
from tcclip.model.merging.bipartite import merge_steps
from tcclip.model.merging.clusters import cluster_means
from tcclip.model.tokens import PROMPT_WORDS, word_ids
from tests.tcclip.model.builders import NAMES, SMALL, small_config, small_model, small_video

CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "no prompting": {"video_prompting": False},
    "no context": {"frame_attention": "none"},
    "cls": {"frame_attention": "cls"},
    "window": {"frame_attention": "window"},
    "joint": {"frame_attention": "joint"},
    "neither": {"frame_attention": "none", "video_prompting": False},
    "no merging": {"aggregation": "none"},
    "random": {"aggregation": "random"},
    "kmeans": {"aggregation": "kmeans"},
    "dpc_knn": {"aggregation": "dpc_knn"},
    "no bias": {"local_global_bias": False},
    "joint positions": {"positional_embedding": "joint"},
    "two prompted layers": {"prompt_layers": (1, 3)},
    "random prompters": {"prompt_init": "random"},
    "gradient through context": {"prompt_stop_grad": False},
    "short prompt": {"prompt_length": 2},
    "long prompt": {"prompt_length": 7},
    "vifi_clip": {"name": "vifi_clip"},
    "clip": {"name": "clip"},
}


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_learns(case: str) -> None:
    """Finite logits, and a gradient for all but the token embedding, which is not trained: the
    weights of a parameter without one would still decay."""
    model = small_model(**CASES[case])
    F.cross_entropy(model(small_video()).logits, torch.tensor([0, 1])).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == ["text.token_embedding.weight"]
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("case", CASES)
def test_batches_equal_single_videos(case: str) -> None:
    model = small_model(dtype=torch.float64, **CASES[case]).eval()
    video = small_video(3, dtype=torch.float64)
    together = model(video, intermediates=True)
    for b in range(3):
        alone = model(video[b : b + 1], intermediates=True)
        torch.testing.assert_close(alone.logits, together.logits[b : b + 1])
        for one, every in zip(
            alone.intermediates.assignments, together.intermediates.assignments, strict=True
        ):
            assert torch.equal(one[0], every[b])


def test_all_settings_give_different_logits() -> None:
    """No setting is ignored: from the same weights, no two give the same logits."""
    results: list[Tensor] = []
    alike = {"gradient through context"}  # the same forward pass
    for case in CASES.keys() - alike:
        results.append(logits(case, 0).flatten())
    distances = torch.cdist(torch.stack(results), torch.stack(results))
    distances.fill_diagonal_(1)
    # tc_clip with neither part is vifi_clip but for the underscore in one class name.
    assert distances.min() > 1e-4


def logits(case: str, seed: int) -> Tensor:
    with torch.no_grad():
        return small_model(seed=seed, **CASES[case])(small_video()).logits


# ---- What a frame may attend to ----


def moved_frames(mode: str, changed: int, token: int) -> list[bool]:
    """Which frames of 5 see a change of one token of frame `changed` in one attention layer."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 5, 4, 2, 8, generator=generator)
    other_k, other_v = k.clone(), v.clone()
    other_k[:, changed, token] += 1
    other_v[:, changed, token] += 1
    a = attend_frames(q, frame_keys(mode, k, v, None, None))
    b = attend_frames(q, frame_keys(mode, other_k, other_v, None, None))
    return [not torch.equal(a[:, t], b[:, t]) for t in range(5)]


@pytest.mark.parametrize(
    ("mode", "cls", "patch"),
    [
        ("none", [0], [0]),
        ("cls", [0, 1, 2, 3, 4], [0]),
        ("window", [0], [0, 1]),
        ("joint", [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ("context", [0], [0]),
    ],
)
def test_which_frames_depend_on_the_first(mode: str, cls: list[int], patch: list[int]) -> None:
    assert moved_frames(mode, 0, 0) == [t in cls for t in range(5)]
    assert moved_frames(mode, 0, 2) == [t in patch for t in range(5)]
    assert moved_frames(mode, 4, 2) == [4 - t in patch for t in range(5)]


@pytest.mark.parametrize("mode", ["none", "cls", "window", "joint"])
def test_one_frame_attends_to_itself_once(mode: str) -> None:
    q, k, v = torch.randn(3, 2, 1, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    plain = attend_frames(q, frame_keys("none", k, v, None, None))
    torch.testing.assert_close(attend_frames(q, frame_keys(mode, k, v, None, None)), plain)


def test_the_bias_shifts_weight_between_local_and_context() -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    context = (torch.zeros(1, 3, 2, 8), torch.full((1, 3, 2, 8), 100.0))
    tables = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    low, high = (
        attend_frames(q, frame_keys("context", k, v, context, t.expand(2, 2)[:, None])).mean()
        for t in tables
    )
    assert high > low + 1


# ---- From seeds to context tokens ----


def seed_tokens() -> Tensor:
    return torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("method", ["bipartite", "kmeans", "dpc_knn", "random"])
def test_context_is_the_mean_of_its_seeds(method: Any) -> None:
    """The centre of every cluster; only the random choice drops seeds."""
    tokens = seed_tokens()
    clusters = assign(tokens, 7, method=method, step=5)
    context = cluster_means(tokens, clusters, 7)
    assert context.shape == (2, 7, 8)
    assert (clusters.min() < 0) == (method == "random")
    for b in range(2):
        for c in range(7):
            members = tokens[b, clusters[b] == c]
            assert len(members) >= 1
            torch.testing.assert_close(context[b, c], members.mean(0))


def test_random_keeps_k_seeds_and_differs_by_layer() -> None:
    clusters = assign(seed_tokens(), 7, method="random", step=5, layer=0)
    assert sorted(clusters[0].tolist())[-8:] == [-1, 0, 1, 2, 3, 4, 5, 6]
    other = assign(seed_tokens(), 7, method="random", step=5, layer=1)
    assert not torch.equal(clusters, other)


@pytest.mark.parametrize("method", ["kmeans", "dpc_knn"])
def test_clusters_are_found(method: Any) -> None:
    """Three tight groups, three centres: the groups come out."""
    centres = torch.eye(3, 8, dtype=torch.float64) * 10
    group = torch.arange(30) % 3
    tokens = centres[group][None] + 0.01 * seed_tokens()[:1]
    clusters = assign(tokens, 3, method=method, step=5, layer=0)
    assert all(clusters[0, group == g].unique().numel() == 1 for g in range(3))
    assert clusters.unique().numel() == 3


def test_no_merging_keeps_every_seed() -> None:
    tokens = seed_tokens()
    clusters = assign(tokens, 7, method="none", step=5)
    assert torch.equal(clusters[0], torch.arange(30))


def test_the_published_step_sizes() -> None:
    assert merge_steps(16 * 58, 96, 100) == [100] * 8 + [32]
    assert merge_steps(4 * 58, 96, 100) == [100, 36]
    assert merge_steps(5, 5, 100) == []
    assert merge_steps(7, 1, 1) == [1] * 6
    assert merge_steps(10, 1, 100) == [5, 2, 1, 1]


# ---- Prompting ----


def test_without_prompting_and_context_it_is_vifi_clip() -> None:
    names = ("pull ups", "ApplyEyeMakeup")
    bare = small_model(names=names, frame_attention="none", video_prompting=False)
    vifi = small_model(names=names, name="vifi_clip")
    assert torch.equal(bare(small_video()).logits, vifi(small_video()).logits)
    assert [n for n, _ in bare.named_parameters()] == [n for n, _ in vifi.named_parameters()]


def unchanged(**settings: Any) -> Model:
    return build_model(small_config(**settings), NAMES)


def test_prompters_start_as_their_text_layer() -> None:
    state = unchanged(prompt_layers=(1, 3)).state_dict()
    for j, layer in enumerate((0, 2)):
        own = {n: x for n, x in state.items() if n.startswith(f"text.prompters.{j}.")}
        assert len(own) == 14
        for name, x in own.items():
            source = name.replace("ln_1_kv", "ln_1").replace(f"prompters.{j}", f"blocks.{layer}")
            assert torch.equal(x, state[source])


def test_prompters_can_start_at_random() -> None:
    a, b = unchanged(prompt_init="random"), unchanged()
    name = "text.prompters.0.mlp.c_fc.weight"
    assert not torch.equal(a.get_parameter(name), b.get_parameter(name))
    assert torch.equal(a.text.prompters[0].ln_1_kv.weight, torch.ones(SMALL.text_width))


@pytest.mark.parametrize("length", [1, 2, 4, 6])
def test_prompt_vectors_start_as_the_words(length: int) -> None:
    model = unchanged(prompt_length=length)
    words = model.text.token_embedding.weight[word_ids(PROMPT_WORDS)]
    known = min(length, 4)
    assert torch.equal(model.text.prompt_vectors[-known:], words[-known:])
    assert model.text.prompt_vectors.shape == (length, SMALL.text_width)


def test_stop_gradient_keeps_prompting_from_the_vision_tower() -> None:
    """The context tokens that prompts use carry a gradient only without the stop."""
    for stop in (True, False):
        model = small_model(prompt_stop_grad=stop)
        video = model.encode_video(small_video())
        assert all(z.requires_grad is not stop for z in video.contexts)
