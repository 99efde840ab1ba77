"""The grid: how many runs, which lists, and what identifies a run."""

import hashlib
import json

import pytest

import protocols
from experiments.errors import UserError
from experiments.grid.plan import Grid, expand, expand_evaluation
from experiments.grid.request import check_search
from tcclip.config import Execution, ModelConfig


@pytest.mark.parametrize(
    ("protocol", "runs"),
    [("zero_shot", 1), ("few_shot", 12), ("base_to_novel", 12), ("fully_supervised", 1)],
)
def test_defaults_are_the_papers_grid(protocol: str, runs: int) -> None:
    specs = expand(Grid(protocol))
    assert len(specs) == runs
    assert {spec.key.seed for spec in specs} == {1024}
    assert {spec.key.model for spec in specs} == {"tc_clip"}


def test_zero_shot_is_tested_on_nine_lists() -> None:
    (spec,) = expand(Grid("zero_shot"))
    assert [(one.dataset, one.split.name) for one in spec.suites] == [
        (name, f"val{i}") for name in ("hmdb51", "ucf101", "k600") for i in (1, 2, 3)
    ]
    assert spec.train_list.split.annotations == "datasets_splits/k400_splits/train.txt"
    assert {one.views.label for one in spec.suites} == {"2x1"}
    assert spec.ensemble_weight == 0.7


@pytest.mark.parametrize(
    ("protocol", "epochs", "warmup", "lr", "lr_min", "batch"),
    [
        ("zero_shot", 10, 5, 8e-6, 8e-8, 256),
        ("few_shot", 50, 5, 2e-6, 2e-8, 64),
        ("base_to_novel", 12, 2, 3.33e-6, 3.33e-8, 64),
        ("fully_supervised", 30, 5, 2.2e-5, 2.2e-7, 512),
    ],
)
def test_schedules_are_those_of_spec_4(
    protocol: str, epochs: int, warmup: int, lr: float, lr_min: float, batch: int
) -> None:
    train = protocols.get(protocol).train
    assert (train.epochs, train.warmup_epochs, train.lr, train.lr_min, train.global_batch) == (
        epochs, warmup, lr, lr_min, batch,
    )  # fmt: skip


def test_llm_names_change_the_text_length_and_ssv2_repeats_its_base_run() -> None:
    base = {s.key.dataset: s for s in expand(Grid("few_shot", shots=(2,)))}
    llm = {s.key.dataset: s for s in expand(Grid("few_shot", shots=(2,), variants=("llm",)))}
    assert llm["hmdb51"].model.text_length == 77
    assert llm["hmdb51"].train_list.label_file == "labels/labels_froster/hmdb_51_llm_labels.json"
    assert llm["ssv2"].run_id == base["ssv2"].run_id


def test_a_pretrained_run_brings_its_parent_once_and_first() -> None:
    specs = expand(Grid("few_shot", variants=("pretrained",)))
    (parent,) = expand(Grid("zero_shot"))
    assert specs[0].run_id == parent.run_id
    assert len(specs) == 13
    assert {spec.parent for spec in specs[1:]} == {parent.run_id}


def test_base_to_novel_has_no_pretrained_run_on_k400() -> None:
    specs = expand(Grid("base_to_novel", variants=("pretrained",)))
    assert {s.key.dataset for s in specs if s.parent} == {"hmdb51", "ucf101", "ssv2"}


def test_identity_is_what_changes_the_numbers() -> None:
    one, two = (
        expand(Grid("few_shot", datasets=("hmdb51",), shots=(2,), settings=settings))[0]
        for settings in ({}, {"train.lr": 3e-6})
    )
    assert one.run_id != two.run_id
    # The same number, given as an override, is the same run.
    (three,) = expand(
        Grid("few_shot", datasets=("hmdb51",), shots=(2,), settings={"train.lr": 2e-6})
    )
    assert three == one
    assert two.key.overrides == ("train.lr=3e-06",)
    assert "/" not in one.run_id


def test_run_ids_are_the_hash_of_the_whole_spec_also_of_a_changed_copy() -> None:
    specs = expand(Grid("few_shot", datasets=("ssv2",), seeds=(1, 2), variants=("pretrained",)))
    changed = specs[-1].model_copy(update={"flip": not specs[-1].flip})
    for spec in (*specs, changed):
        data = spec.model_dump(mode="json", exclude={"key": {"overrides"}})
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        assert spec.run_id.endswith(f"-s{spec.key.seed}-{digest[:10]}")
    assert len({spec.run_id for spec in (*specs, changed)}) == len(specs) + 1


def test_untrained_clip_has_no_epochs_whatever_is_set() -> None:
    (spec,) = expand(Grid("zero_shot", models=("clip",), settings={"train.epochs": 3}))
    assert spec == expand(Grid("zero_shot", models=("clip",)))[0]
    assert spec.train.epochs == 0
    assert spec.ensemble_weight is None
    (other,) = expand(
        Grid("zero_shot", models=("clip",), settings={"train.clip_weights": "random"})
    )
    assert other.train.clip_weights == "random", "what it starts from is still the user's to say"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid("zeroshot"), "unknown protocol 'zeroshot'; known: zero_shot"),
        (Grid("few_shot", datasets=("kinetics",)), "allowed: hmdb51, ucf101, ssv2"),
        (Grid("few_shot", models=("resnet",)), "allowed: clip, vifi_clip, open_vclip, tc_clip"),
        (Grid("few_shot", variants=("big",)), "allowed: base, llm, pretrained"),
        (Grid("few_shot", shots=(3,)), "no shots 3 in its lists; allowed: 2, 4, 8, 16"),
        (Grid("zero_shot", shots=(2,)), "zero_shot has no --shots"),
        (Grid("zero_shot", splits=(2,)), "zero_shot has no --splits"),
        (Grid("zero_shot", settings={"train.lrr": 1}), "the nearest is 'train.lr'"),
        (Grid("zero_shot", settings={"train.lr": "fast"}), "--set train.lr: .*given: 'fast'"),
        (Grid("zero_shot", settings={"train.lr": -1}), "greater than 0"),
        (Grid("zero_shot", settings={"model.name": "clip"}), "use --models"),
        (Grid("zero_shot", settings={"model.backbone": "foo"}), "unknown backbone 'foo'"),
        (Grid("zero_shot", settings={"model.prompt_layers": [13]}), "cannot be built"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(grid: Grid, message: str) -> None:
    with pytest.raises(UserError, match=message):
        expand(grid)


def test_a_global_batch_that_cannot_be_made_is_refused() -> None:
    train = protocols.get("few_shot").train
    assert Execution(workers=4, micro_batch=4).chunk_size(train) == 4
    assert Execution(workers=4, micro_batch=2).chunk_size(train) == 4
    for workers, micro in ((3, 4), (4, 5), (1, 6), (32, 4)):
        with pytest.raises(ValueError, match="a global batch of 64 cannot be made"):
            Execution(workers=workers, micro_batch=micro).chunk_size(train)
    auto = Execution(workers=4)
    assert (auto.micro_batch, auto.chunk_size(train)) == ("auto", 4)
    assert auto.micro_batches(train, 64) == [1, 2, 4, 8, 16]
    with pytest.raises(ValueError, match="micro-batches of any size on 3 workers"):
        Execution(workers=3).chunk_size(train)


def test_layers_are_written_one_way() -> None:
    one, two = (
        expand(Grid("zero_shot", settings={"model.prompt_layers": layers}))[0]
        for layers in ([12, 6], [6, 12])
    )
    assert one == two
    assert one.model.prompt_layers == (6, 12)


def test_views_can_be_placed_evenly() -> None:
    (spec,) = expand(Grid("few_shot", datasets=("hmdb51",), shots=(2,),
                          settings={"augment.view_sampling": "uniform"}))  # fmt: skip
    assert {one.views.label for one in spec.suites} == {"2x1u"}


def test_checkpoints_are_evaluated_as_what_they_are() -> None:
    model = ModelConfig(name="vifi_clip", text_length=30)
    grid = Grid("zero_shot", variants=("llm",), checkpoint="a" * 64)
    (raw,), (both,) = (expand_evaluation(grid, model, ensembled=e) for e in (False, True))
    assert raw.run_id != both.run_id
    assert raw.key != both.key
    assert both.key.origin == "checkpoint aaaaaaaaaa"
    assert both.model.text_length == 77, "LLM names need it, whatever the checkpoint was made with"
    assert both.train.epochs == 0
    with pytest.raises(UserError, match="say which with --shots"):
        expand_evaluation(Grid("few_shot", checkpoint="a" * 64), model, ensembled=False)


def test_searches_compare_like_with_like() -> None:
    check_search(expand(Grid("few_shot", datasets=("hmdb51",), shots=(2,), seeds=(0, 1))))
    with pytest.raises(UserError, match="there are 12: choose one"):
        check_search(expand(Grid("few_shot")))
    with pytest.raises(UserError, match="--init-checkpoint"):
        check_search(expand(Grid("few_shot", variants=("pretrained",))))
