"""How the model runs: encode once, precisions, compile, checkpointing, gradients."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tcclip.model.builders import NAMES, SMALL, small_model, small_video

LISTS = (NAMES, ("pull ups",), ("juggling three balls", "a dog", "brush_hair"))


@pytest.mark.parametrize(
    "settings", [{}, {"prompt_layers": (1, 2)}, {"name": "vifi_clip"}, {"video_prompting": False}]
)
def test_one_encoding_scores_many_lists(settings: dict[str, Any]) -> None:
    model = small_model(dtype=torch.float64, **settings).eval()
    video = small_video(3, dtype=torch.float64)
    with torch.no_grad():
        features = model.encode_video(video)
        for names in LISTS:
            found = model.score(features, model.encode_classes(names))
            model.set_class_names(names)
            torch.testing.assert_close(found, model(video).logits)
            picked = torch.tensor([2, 0])
            some = model.score(features[picked], model.encode_classes(names))
            torch.testing.assert_close(some, found[picked])


def test_seeds_are_in_descending_order_of_score() -> None:
    seen = small_model()(small_video(), intermediates=True).intermediates
    for seeds, scores, owner in zip(seen.seeds, seen.cls_attention, seen.assignments, strict=True):
        ordered = scores.mean(2).gather(2, seeds)
        assert (ordered.diff(dim=-1) <= 0).all()
        assert ordered[..., -1].min() >= 0
        assert ((owner >= 0).sum(1) == seeds[0].numel()).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["tc_clip", "vifi_clip"])
def test_autocast(dtype: torch.dtype, name: str) -> None:
    """Low precision stays near float32, and selection and logits are float32."""
    model, video = small_model(name=name, frame_attention="context"), small_video()
    exact = model(video).logits
    with torch.autocast("cpu", dtype=dtype):
        output = model(video, intermediates=True)
    assert output.logits.dtype == torch.float32
    assert all(x.dtype == torch.float32 for x in output.intermediates.cls_attention)
    output.logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert (output.logits - exact).abs().max() < 0.15 * exact.abs().max()


def gradients(model: nn.Module, video: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(video).logits.square().sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("settings", [{}, {"prompt_layers": (1, 2)}, {"name": "vifi_clip"}])
def test_activation_checkpointing_changes_nothing(settings: dict[str, Any]) -> None:
    model, video = small_model(**settings), small_video()
    plain = gradients(model, video)
    model.set_activation_checkpointing(True)
    checkpointed = gradients(model, video)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)


@pytest.fixture
def compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


SHALLOW = SMALL.model_copy(update={"vision_layers": 2, "text_layers": 2})


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("settings", "backend"),
    [
        ({}, "eager"),
        *(
            pytest.param(settings, "aot_eager", marks=pytest.mark.slow)
            for settings in (
                {},
                {"prompt_layers": (1, 2)},
                {"name": "vifi_clip"},
                {"aggregation": "kmeans"},
                {"aggregation": "dpc_knn"},
                {"aggregation": "random"},
                {"aggregation": "none"},
                {"frame_attention": "cls"},
                {"frame_attention": "window"},
                {"frame_attention": "joint"},
                {"positional_embedding": "joint"},
            )
        ),
    ],
)
def test_compiles_in_one_graph(settings: dict[str, Any], backend: str) -> None:
    """`fullgraph` raises at the first graph break; gradients go through the compiled graph."""
    shallow: dict[str, Any] = {"geometry": SHALLOW, "prompt_layers": (2,)}
    model = small_model(dtype=torch.float64, **(shallow | settings))
    video = small_video(dtype=torch.float64)
    expected = model(video).logits
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    found = compiled(video).logits
    torch.testing.assert_close(found, expected)
    plain = gradients(model, video)
    for name, gradient in gradients(compiled, video).items():
        torch.testing.assert_close(gradient, plain[name.removeprefix("_orig_mod.")])


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("default")  # torch warns of its own doing while it compiles
@pytest.mark.parametrize("settings", [{}, {"name": "vifi_clip"}])
def test_compiled_layers_compute_what_eager_ones_do(settings: dict[str, Any]) -> None:
    model, video = small_model(dtype=torch.float64, **settings), small_video(dtype=torch.float64)
    plain = gradients(model, video)
    expected = model(video).logits
    model.set_compiled(True)
    compiled = gradients(model, video)
    torch.testing.assert_close(model(video).logits, expected)
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient)
    assert model.vision.compiler is not None and model.vision.compiler.enabled


def test_what_cannot_be_compiled_runs_eagerly_after_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile(function: Any, **_: Any) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("no compiler\nand more")

        return fail

    model, video = small_model(), small_video()
    expected = model(video).logits
    monkeypatch.setattr(torch, "compile", compile)
    model.set_compiled(True)
    for _ in range(2):
        assert torch.equal(model(video).logits, expected)
    assert [record.message for record in caplog.records] == [
        "slower from here on, as torch.compile failed: no compiler"
    ]


def test_nothing_but_parameters_is_saved() -> None:
    model = small_model()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
