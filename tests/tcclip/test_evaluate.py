"""Classes with several names: their logits are averaged, in evaluation alone."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tcclip.config import AugmentConfig, ModelConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.transforms import normalise
from tcclip.distributed import current_ranks
from tcclip.evaluate import EvalList, Evaluator
from tcclip.model import Model, build_model

ITEMS = tuple(Item(f"{number}.mp4", number % 2) for number in range(3))
VIDEO = torch.randint(0, 255, (3, 2, 4, 3, 32, 32), dtype=torch.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    config = ModelConfig(
        backbone="tiny", num_frames=4, text_length=16, context_tokens=4, merge_step=8,
        prompt_layers=(2,),
    )  # fmt: skip
    return build_model(config, ["wave", "nod"], clip_weights="random").eval()


def evaluator() -> Evaluator:
    def loader(name: str, items: Sequence[Item], views: Views) -> Any:
        yield SimpleNamespace(unreadable={}, readers={}, indices=torch.arange(3), video=VIDEO)

    return Evaluator(loader, AugmentConfig(), current_ranks("cpu"), nullcontext)  # type: ignore[arg-type]


def listed(*names: tuple[str, ...]) -> EvalList:
    several = any(len(own) > 1 for own in names)
    return EvalList(
        "test", "mine", "test", ITEMS, tuple(own[0] for own in names), Views(clips=2),
        all_names=names if several else None,
    )  # fmt: skip


def test_logits_of_a_classs_names_are_averaged(model: Model) -> None:
    one = listed(("wave", "greet with a hand"), ("nod",), ("bow", "bend", "greet"))
    plain = listed(("wave",), ("nod",))
    scores = evaluator().evaluate({"": model}, [one, plain])
    assert scores["", 0].values.shape == (3, 3) and scores["", 1].values.shape == (3, 2)
    with torch.inference_mode():
        videos = model.encode_video(normalise(VIDEO.flatten(0, 1), AugmentConfig()))
        names = ["wave", "greet with a hand", "nod", "bow", "bend", "greet"]
        logits = model.score(videos, model.encode_classes(names))
    means = torch.stack([logits[:, :2].mean(1), logits[:, 2], logits[:, 3:].mean(1)], dim=1)
    expected = means.softmax(-1).unflatten(0, (3, 2)).sum(1)
    assert torch.allclose(torch.from_numpy(scores["", 0].values), expected, atol=1e-5)


def test_compiled_batches_have_one_size_and_the_same_scores(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two videos, then one that is padded; and a list that holds one of the first two."""
    sizes = []

    class Seen(Evaluator):
        def _padded(self, video: torch.Tensor, size: int) -> torch.Tensor:
            padded = super()._padded(video, size)
            sizes.append(len(padded))
            return padded

    def loader(name: str, items: Sequence[Item], views: Views) -> Any:
        for rows in ([0, 1], [2]):
            yield SimpleNamespace(
                unreadable={}, readers={}, indices=torch.tensor(rows), video=VIDEO[rows]
            )

    everything = listed(("wave",), ("nod",))
    one = replace(everything, items=ITEMS[1:2])
    eager = evaluator().evaluate({"": model}, [everything, one])
    compiled = Seen(loader, AugmentConfig(), current_ranks("cpu"), nullcontext, compile=True)  # type: ignore[arg-type]
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    found = compiled.evaluate({"": model}, [everything, one])
    assert sizes == [4, 4]
    for at, scores in eager.items():
        assert torch.allclose(torch.from_numpy(found[at].values), torch.from_numpy(scores.values))
