"""Protocols on users' own data sets: which lists are trained on, selected on and tested on."""

from typing import Any

import pytest

from experiments.errors import UserError
from experiments.grid.options import GridOptions
from experiments.grid.plan import Grid, expand, expand_evaluation
from experiments.grid.request import plan_sweep
from experiments.grid.spec import RunSpec
from protocols.datasets import DATASETS, Dataset, LabelSet, Split
from tcclip.config import ModelConfig


def own(*splits: str, llm: bool = False) -> dict[str, Dataset]:
    """The known data sets with one of one's own; novel lists have their own classes."""
    labels = tuple(
        LabelSet(name=name, file=f"{name}.csv", classes=9, llm=f"{name}.json" if llm else None)
        for name in ("all", "novel")
    )
    lists = tuple(
        Split(name=name, annotations=f"{name}.txt", videos=9,
              labels="novel" if name.startswith("novel") else "all")
        for name in splits
    )  # fmt: skip
    return DATASETS | {"mine": Dataset(name="mine", title="", splits=lists, label_sets=labels)}


def specs(protocol: str, *splits: str, llm: bool = False, **axes: Any) -> list[RunSpec]:
    return expand(Grid(protocol, datasets=("mine",), **axes), own(*splits, llm=llm))


def lists(spec: RunSpec) -> tuple[str, list[str], list[str]]:
    """Names of the lists trained on, selected on and tested on."""
    assert {one.dataset for one in (spec.train_list, *spec.validation, *spec.suites)} == {"mine"}
    names = ([one.split.name for one in part] for part in (spec.validation, spec.suites))
    return (spec.train_list.split.name, *names)


def test_any_shots_and_without_a_wish_those_that_there_are() -> None:
    splits = "train_16shot", "train_5shot", "val", "train_xshot", "train_05shot"
    made = specs("few_shot", *splits)
    assert [spec.key.shots for spec in made] == [5, 16]
    assert [lists(spec) for spec in made] == [
        ("train_5shot", ["val"], ["val"]), ("train_16shot", ["val"], ["val"]),
    ]  # fmt: skip
    assert [spec.key.shots for spec in specs("few_shot", *splits, shots=(5,))] == [5]
    with pytest.raises(UserError, match=r"no split train_2shot; it has lists for shots: 5, 16"):
        specs("few_shot", *splits, shots=(2,))
    with pytest.raises(UserError, match=r"no split train_Nshot; it has lists for shots: none"):
        specs("few_shot", "train", "val")


def test_the_published_sets_keep_their_shots() -> None:
    both = Grid("few_shot", datasets=("mine", "hmdb51"))
    made = expand(both, own("train_5shot", "val"))
    assert [spec.key.shots for spec in made] == [5, 2, 4, 8, 16]
    with pytest.raises(UserError, match="few_shot: no shots 5 in its lists; allowed: 2, 4, 8, 16"):
        expand(Grid("few_shot", datasets=("hmdb51",), shots=(5,)), own("train_5shot", "val"))


@pytest.mark.parametrize("protocol", ["few_shot", "fully_supervised"])
@pytest.mark.parametrize(
    ("splits", "validation", "test"),
    [
        (("val", "test"), "val", "test"),
        (("test", "val"), "val", "test"),
        (("val",), "val", "val"),
        (("test",), "test", "test"),
        (("test2", "test1", "val1"), "val1", "test1"),
        (("val3", "val1", "val2"), "val1", "val1"),
    ],
)
def test_selected_on_val_and_tested_on_test(
    protocol: str, splits: tuple[str, ...], validation: str, test: str
) -> None:
    (spec,) = specs(protocol, "train", "train_2shot", *splits)
    assert lists(spec)[1:] == ([validation], [test])
    published = expand(Grid(protocol))[0]
    assert spec.suites[0].views == published.suites[0].views
    assert spec.validation[0].views == published.validation[0].views


def test_zero_shot_is_tested_on_every_test_list() -> None:
    (spec,) = specs("zero_shot", "train", "val", "test10", "test9", "test")
    assert lists(spec) == ("train", ["val"], ["test", "test9", "test10"])
    assert spec.ensemble_weight == 0.7
    (spec,) = specs("zero_shot", "train1", "val1", "val2")
    assert lists(spec) == ("train1", ["val1"], ["val1"])


@pytest.mark.parametrize("protocol", ["zero_shot", "fully_supervised"])
@pytest.mark.parametrize(
    ("splits", "trained", "validation", "test"),
    [
        (("train1", "test1", "train2", "test2"), "train1", "test1", "test1"),
        (("train2", "test1", "test2"), "train2", "test2", "test2"),
        (("train02", "val1", "val2", "test1", "test2"), "train02", "val2", "test2"),
        (("train2", "val", "test1", "test2", "test22"), "train2", "val", "test2"),
        (("train2", "test1"), "train2", "test1", "test1"),
    ],
)
def test_numbered_lists_belong_together(
    protocol: str, splits: tuple[str, ...], trained: str, validation: str, test: str
) -> None:
    (spec,) = specs(protocol, *splits)
    assert lists(spec) == (trained, [validation], [test])


def test_an_evaluation_is_on_every_test_list() -> None:
    splits = "train1", "test1", "train2", "test2"
    grid = Grid("zero_shot", datasets=("mine",), checkpoint="a" * 64)
    (spec,) = expand_evaluation(grid, ModelConfig(), ensembled=True, datasets=own(*splits))
    assert lists(spec)[1:] == ([], ["test1", "test2"])


def test_base_to_novel_on_own_lists() -> None:
    made = specs("base_to_novel", "base_s1", "base_s4", "base_val", "novel_val")
    assert [spec.key.base_split for spec in made] == [1, 4]
    assert lists(made[1]) == ("base_s4", ["base_val"], ["base_val", "novel_val"])
    assert [one.labels.name for one in made[1].suites] == ["all", "novel"]
    splits = "base_s1", "base_val", "base_test", "novel_test"
    assert lists(specs("base_to_novel", *splits)[0]) == (
        "base_s1", ["base_val"], ["base_test", "novel_test"],
    )  # fmt: skip
    with pytest.raises(UserError, match="has no split novel_test or novel_val to be tested on"):
        specs("base_to_novel", "base_s1", "base_val")


@pytest.mark.parametrize(
    ("protocol", "splits", "axes"),
    [
        ("zero_shot", ("test",), {}),
        ("zero_shot", ("val",), {}),
        ("fully_supervised", ("val",), {}),
        ("few_shot", ("test",), {"shots": (3,)}),
        ("base_to_novel", ("base_val", "novel_val"), {"splits": (1,)}),
    ],
)
def test_an_evaluation_needs_the_test_lists_alone(
    protocol: str, splits: tuple[str, ...], axes: dict[str, Any]
) -> None:
    grid = Grid(protocol, datasets=("mine",), checkpoint="a" * 64, **axes)
    (spec,) = expand_evaluation(grid, ModelConfig(), ensembled=True, datasets=own(*splits))
    assert lists(spec) == (splits[0], [], list(splits))
    more = own("train", "train_3shot", "base_s1", *splits)
    (again,) = expand_evaluation(grid, ModelConfig(), ensembled=True, datasets=more)
    assert again.run_id == spec.run_id, "lists that are not read change nothing"
    with pytest.raises(UserError, match=r"cannot be run on mine: .*(no split|none)"):
        specs(protocol, *splits, **axes)


def test_an_evaluation_of_few_shot_says_which_shots() -> None:
    grid = Grid("few_shot", datasets=("mine",), checkpoint="a" * 64)
    for splits in (("test",), ("test", "train_2shot", "train_4shot")):
        with pytest.raises(UserError, match="say which with --shots"):
            expand_evaluation(grid, ModelConfig(), ensembled=False, datasets=own(*splits))
    one = own("test", "train_2shot")
    (spec,) = expand_evaluation(grid, ModelConfig(), ensembled=False, datasets=one)
    assert spec.key.shots == 2


def test_clip_is_not_trained_and_needs_no_list_to_train_on() -> None:
    (spec,) = specs("zero_shot", "test", models=("clip",))
    assert lists(spec) == ("test", [], ["test"])


def test_llm_names() -> None:
    (spec,) = specs("fully_supervised", "train", "val", llm=True, variants=("llm",))
    assert spec.key.variant == "llm" and spec.model.text_length == 77
    assert [one.label_file for one in (spec.train_list, *spec.suites)] == ["all.json"] * 2
    (base,) = specs("fully_supervised", "train", "val", variants=("llm",))
    assert base.key.variant == "base", "without LLM names, it is the base run"


def test_the_data_sets_whose_files_are_given_are_meant() -> None:
    known = own("train_2shot", "val")
    made = plan_sweep(GridOptions("few_shot"), known, ["mine"])
    assert {spec.key.dataset for spec in made.specs} == {"mine"}
    named = plan_sweep(GridOptions("few_shot", datasets="hmdb51"), known, ["mine"])
    assert {spec.key.dataset for spec in named.specs} == {"hmdb51"}
    assert len(plan_sweep(GridOptions("few_shot"), known).specs) == 12
    with pytest.raises(UserError, match="the demo has its own videos"):
        plan_sweep(GridOptions("few_shot", demo=True), known, ["mine"])
