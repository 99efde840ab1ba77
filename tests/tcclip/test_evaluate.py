"""Classes with several names: their logits are averaged, in evaluation alone."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tcclip.config import AugmentConfig, ModelConfig, Views
from tcclip.data.annotations import Item
from tcclip.data.transforms import normalise
from tcclip.distributed import current_ranks
from tcclip.evaluate import EvalList, Evaluator, Validations
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


@pytest.mark.parametrize("factor", [-1.0, float("nan")])
def test_scores_do_not_come_from_compiled_code_that_is_wrong(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, factor: float
) -> None:
    def compile(function: Any, **_: Any) -> Any:
        def wrong(block: Any, x: torch.Tensor, *inputs: Any) -> Any:
            found, *others = function(block, x, *inputs)
            return factor * found, *others

        return wrong if function.__name__ == "_last_frames" else function

    expected = evaluator().evaluate({"": model}, [listed(("wave",), ("nod",))])["", 0].values
    monkeypatch.setattr(torch, "compile", compile)
    compiled = replace(evaluator(), compile=True)
    for _ in range(2):
        found = compiled.evaluate({"": model}, [listed(("wave",), ("nod",))])["", 0].values
        assert np.array_equal(found, expected)
    model.set_compiled(False)
    assert [record.message for record in caplog.records] == [
        "slower from here on, as compiled code's scores are wrong"
    ]


class Counting(Evaluator):
    """Counts the passes over videos: of how many lists, under which models."""

    passes: list[tuple[list[str], int]]

    def evaluate(self, models: Any, lists: Any) -> Any:
        self.passes.append((list(models), len(lists)))
        return super().evaluate(models, lists)


@pytest.mark.parametrize("resumed", [False, True])
def test_final_tests_take_the_scores_of_equal_validations(model: Model, resumed: bool) -> None:
    """Kept ones, or computed again as the validation was: bit for bit the same."""
    base = evaluator()
    counting = Counting(base.loader, base.augment, base.ranks, base.autocast)
    object.__setattr__(counting, "passes", [])
    validated, other = listed(("wave",), ("nod",)), listed(("nod",), ("wave",))
    validations = Validations(counting, [validated])
    made = {epoch: validations.validate(model) for epoch in (1, 2, 3)}
    for epoch, top1 in ((1, 50.0), (2, 50.0), (3, 40.0)):
        if not resumed or epoch == 3:
            validations.keep(epoch, made[epoch], top1)
    counting.passes.clear()
    again = replace(validated, suite="final", split="the same")
    found = validations.final(
        {"best": (model, 1), "last": (model, 3), "mixed": (model, None)}, [other, again]
    )
    assert counting.passes == [([""], 1)] * resumed + [
        (["best", "last", "mixed"], 1), (["mixed"], 1)
    ]  # fmt: skip
    assert found.keys() == {(key, at) for key in ("best", "last", "mixed") for at in (0, 1)}
    for key in ("best", "last", "mixed"):
        assert np.array_equal(found[key, 1].values, made[1]["", 0].values)
        assert not np.array_equal(found[key, 0].values, found[key, 1].values)


def test_only_equal_lists_share_scores() -> None:
    one = listed(("wave",), ("nod",))
    assert replace(one, suite="a", split="b").scored_as(one)
    others: dict[str, Any] = {
        "dataset": "other", "items": ITEMS[:2], "class_names": ("wave", "bow"), "views": Views(),
        "all_names": (("wave", "greet"), ("nod",)),
    }  # fmt: skip
    assert not any(replace(one, **{name: value}).scored_as(one) for name, value in others.items())
