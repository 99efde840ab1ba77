"""`--set`: values, names, and what is said of those that do not exist."""

import pytest

from experiments.errors import UserError
from experiments.grid.overrides import apply, parse
from tcclip.config import TrainConfig

TRAIN = TrainConfig(epochs=2, warmup_epochs=1, lr=1e-3, lr_min=1e-5, global_batch=8)


def test_values_are_yaml_with_exponents() -> None:
    given = ["train.lr=1e-5", "model.prompt_layers=[6, 12]", "model.local_global_bias=false"]
    assert parse(given) == {
        "train.lr": 1e-5,
        "model.prompt_layers": [6, 12],
        "model.local_global_bias": False,
    }


@pytest.mark.parametrize("text", ["train.lr", "=3", ""])
def test_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="write NAME=VALUE"):
        parse([text])


def test_nested_names_reach_their_field() -> None:
    changed = apply(TRAIN, {"train.mix.smoothing": 0.2, "model.num_frames": 4}, "train")
    assert changed.mix.smoothing == 0.2
    assert changed.lr == TRAIN.lr
    assert TRAIN.mix.smoothing == 0.1, "the original is untouched"
