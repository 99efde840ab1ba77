"""What a run costs: the paper's steps and test videos, and hours from measured speeds."""

from pathlib import Path
from typing import Any

import pytest

from experiments.grid.plan import Grid, expand
from experiments.monitor.cost import cost
from experiments.monitor.dry_run import dry_run, print_plan
from experiments.monitor.rates import CLIPS, GPU_SOURCE, TEST_VIEWS, TRAINING_CLIPS
from tcclip.config import Execution, ModelConfig
from tcclip.model_size import forward_operations
from tests.places import ROOT

#: Steps of a whole run: epochs x (videos // global batch), from SPEC 4 and 6.
STEPS = {
    ("few_shot", "hmdb51"): [50 * (51 * k // 64) for k in (2, 4, 8, 16)],
    ("few_shot", "ucf101"): [50 * (101 * k // 64) for k in (2, 4, 8, 16)],
    ("few_shot", "ssv2"): [50 * (174 * k // 64) for k in (2, 4, 8, 16)],
    ("base_to_novel", "k400"): [12 * (3200 // 64)] * 3,
    ("base_to_novel", "hmdb51"): [12 * (416 // 64)] * 3,
    ("base_to_novel", "ucf101"): [12 * (816 // 64)] * 3,
    ("base_to_novel", "ssv2"): [12 * (1392 // 64)] * 3,
}
TESTED = {
    "zero_shot": {"k400": 3 * 1530 + 3783 + 3734 + 3696 + 14084 + 13978 + 14136},
    "few_shot": {"hmdb51": 1530, "ucf101": 3783, "ssv2": 24777},
    "base_to_novel": {"k400": 9944 + 9933, "hmdb51": 780 + 750, "ucf101": 2088 + 1695,
                      "ssv2": 17562 + 7215},
    "fully_supervised": {"k400": 19877},
}  # fmt: skip


@pytest.mark.parametrize("protocol", TESTED)
def test_videos_and_steps_are_those_of_the_paper(protocol: str) -> None:
    steps: dict[tuple[str, str], list[int | None]] = {}
    for spec in expand(Grid(protocol)):
        one = cost(spec, {}, Execution())
        assert one.eval_videos == TESTED[protocol][spec.key.dataset]
        steps.setdefault((protocol, spec.key.dataset), []).append(one.steps)
    for point, counts in steps.items():
        # K400's training list is not of published length: nothing is claimed without it.
        assert counts == STEPS.get(point, [None])


def test_a_list_at_hand_gives_its_steps() -> None:
    (spec,) = expand(Grid("zero_shot"))
    assert cost(spec, {}, Execution(), train_videos=2560).steps == 10 * 10
    assert cost(spec, {}, Execution(), train_videos=2559).steps == 10 * 9


def test_hours_are_those_of_what_takes_longer() -> None:
    (spec,) = expand(Grid("few_shot", datasets=("hmdb51",), shots=(16,), seeds=(0,)))
    alone = cost(spec, {}, Execution(loader_workers=0))
    # Trained, and validated in 6 epochs with two clips a video; the last test is a validation.
    for cache_size, decoded in (("auto", 1), (0, 6)):
        clips = 50 * 16 * 51 + 1530 * 2 * decoded
        one = cost(spec, {}, Execution(cache_size=cache_size))  # type: ignore[arg-type]
        assert one.decode_hours == pytest.approx(clips / CLIPS["hmdb51"] / 3600)
    assert (alone.gpu_hours, alone.bound) == (alone.decode_hours, "decoding")
    # The model is the one whose rates are given.
    seconds = 50 * 16 * 51 / TRAINING_CLIPS + 1530 * 2 * 6 / TEST_VIEWS
    assert alone.compute_hours == pytest.approx(seconds / 3600, rel=0.01)
    many = cost(spec, {}, Execution(loader_workers=64))
    assert (many.gpu_hours, many.bound) == (alone.compute_hours, "GPU")
    # GPUs that wait for decoding cost less where runs share them.
    shared = cost(spec, {}, Execution(gpus_per_worker=0.5, loader_workers=1))
    assert shared.gpu_hours == pytest.approx(alone.decode_hours / 2)


def test_class_lists_cost_once_a_step_and_worker() -> None:
    def compute(workers: int, **grid: Any) -> float:
        (spec,) = expand(Grid("few_shot", datasets=("ssv2",), shots=(2,), seeds=(0,), **grid))
        found = cost(spec, {}, Execution(workers=workers)).compute_hours
        assert found is not None
        return found

    one, four = compute(1), compute(4)
    steps = 50 * (174 * 2 // 64)
    operations = 174 * 30 * 12 * (12 * 512**2 + 2 * 512 * 30)
    per_step = operations / forward_operations(ModelConfig()) / TRAINING_CLIPS / 3600
    assert four - one == pytest.approx(3 * steps * per_step, rel=1e-6)


def test_a_dry_run_says_what_its_hours_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = expand(Grid("few_shot", datasets=("hmdb51",), shots=(2, 4), seeds=(0,)))
    for loaders, bound in ((0, "decoding"), (64, "GPU")):
        execution = Execution(loader_workers=loaders)
        print_plan(dry_run(specs, tmp_path, execution, lambda one: None), execution, "terminal")
        out = capsys.readouterr().out
        assert f"estimated ({bound})" in out
        assert (
            "computing: measured on an H200 (docs/" in out
            and "docs/data_bench_2026-11-24.md" in out
        )
        advised = "decoding bounds 2 of 2 runs: more, up to " in out
        assert advised is (bound == "decoding")
    assert (ROOT / GPU_SOURCE).is_file()
