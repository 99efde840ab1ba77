"""Comparisons of runs with kept scores: numbers, what is left out and named, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import protocols
from results.compare.compare import Comparison, compare, render, save_plot
from results.compare.selection import Selection, parse_selection
from results.reading.predictions import read_predictions
from results.reading.run_folder import RunFolder
from tests.results import builder, recorded_runs

ZERO_SHOT = protocols.get("zero_shot")
DEMO = protocols.get("zero_shot", demo=True)
BASE_TO_NOVEL = protocols.get("base_to_novel", demo=True)


def write_demo_run(
    out: Path,
    model: str,
    *,
    videos: int = 64,
    right: float = 0.5,
    unreadable: Sequence[int] = (),
    overrides: tuple[str, ...] = (),
    seed: int = 0,
) -> None:
    """One seed's zero-shot demo run, with the scores of its three splits."""
    of = builder.key(DEMO, model=model, seed=seed, overrides=overrides)
    folder = builder.write_result(out, builder.result(DEMO, of, lambda *_: 50.0))
    for split in DEMO.suites[0].splits:
        builder.write_scores(
            folder, "moving_shapes", split, labels=[i % 16 for i in range(videos)], classes=16,
            right=right, seed=1, unreadable=unreadable,
        )  # fmt: skip


def compared(out: Path, a: str, b: str) -> Comparison:
    return compare(a, b, "zero_shot", outs=[out], demo=True, resamples=500)


def test_swapping_the_methods_swaps_the_signs(recorded: Path) -> None:
    (one,) = compared(recorded, "tc_clip", "vifi_clip").differences
    (other,) = compared(recorded, "vifi_clip", "tc_clip").differences
    assert one.difference == -other.difference
    assert one.over_videos == pytest.approx([-x for x in reversed(other.over_videos)])
    assert one.clear and one.seeds == (2, 2) and one.videos == 192
    assert one.per_seed is not None and one.per_seed.n == 2 and one.per_seed.ddof == 1


def test_the_difference_is_that_of_the_videos_right(recorded: Path) -> None:
    """Against accuracies counted from the kept scores directly."""
    (difference,) = compared(recorded, "tc_clip:raw:last", "vifi_clip:raw:last").differences
    for model, accuracy in (("tc_clip", difference.a), ("vifi_clip", difference.b)):
        shares = []
        for seed in (0, 1):
            run = recorded / "runs" / builder.run_id(builder.key(DEMO, model=model, seed=seed))
            for split in DEMO.suites[0].splits:
                kept = read_predictions(
                    RunFolder(run), "moving_shapes", split, weights="raw", checkpoint="last"
                )
                assert kept is not None
                shares.append(100.0 * float((kept.predicted() == kept.labels).mean()))
        assert accuracy == pytest.approx(np.mean(shares))


def test_the_same_seed_gives_the_same_text(recorded: Path) -> None:
    texts = {render(compared(recorded, "tc_clip", "clip"), "json") for _ in range(2)}
    assert len(texts) == 1
    data = json.loads(texts.pop())
    assert data["a"] == "TC-CLIP, ensembled, best epoch" and data["b"] == "CLIP, raw, best epoch"


def test_a_users_own_data_set_is_compared_too(tmp_path: Path) -> None:
    """Its column comes from the measured numbers; one that only one method has is named."""
    protocol = protocols.get("few_shot")
    for model, name, right in (
        ("tc_clip", "gestures", 1.0), ("vifi_clip", "gestures", 0.0), ("tc_clip", "signs", 1.0),
    ):  # fmt: skip
        of = builder.key(protocol, dataset=name, model=model, shots=4)
        own = builder.own_result(protocol, of, {(name, "val"): 100 * right})
        folder = builder.write_result(tmp_path, own)
        builder.write_scores(
            folder, name, "val", labels=[i % 5 for i in range(20)], classes=5, right=1.0, seed=1,
            weights=("raw",), checkpoints=("best",), unreadable=() if right else range(20),
        )  # fmt: skip
    made = compare("tc_clip", "vifi_clip", "few_shot", outs=[tmp_path], resamples=100)
    (one,) = made.differences
    assert (one.dataset, one.part, one.a, one.b) == ("gestures", "K=4", 100.0, 0.0)
    assert one.over_videos == (100.0, 100.0) and one.videos == 20
    assert made.complaints == ("signs K=4: no complete model of vifi_clip",), "of nothing else"
    assert "| gestures K=4 | 100.0 | 0.0 | +100.0 * |" in render(made, "md")


def test_formats_and_plot(recorded: Path, tmp_path: Path) -> None:
    comparison = compared(recorded, "tc_clip", "vifi_clip")
    assert max(map(len, render(comparison, "terminal").splitlines())) <= 100
    assert "| moving shapes top-1 |" in render(comparison, "md")
    for ending in ("svg", "png", "pdf"):
        save_plot(comparison, tmp_path / f"plot.{ending}")
        assert (tmp_path / f"plot.{ending}").stat().st_size > 1000
    with pytest.raises(ValueError, match="'doc' is not supported"):
        save_plot(comparison, tmp_path / "plot.doc")


def test_two_sweeps_can_be_compared(recorded: Path, tmp_path: Path) -> None:
    recorded_runs.write_demo(tmp_path)
    a, b = str(recorded), f"{tmp_path}:tc_clip"
    comparison = compare(a, b, "zero_shot", outs=[], demo=True, resamples=100)
    assert comparison.differences[0].difference == 0
    assert str(recorded) in comparison.a and str(tmp_path) in comparison.b


def test_base_to_novel_has_its_harmonic_mean(tmp_path: Path) -> None:
    for model, right in (("tc_clip", 0.8), ("vifi_clip", 0.5)):
        for seed in (0, 1):
            for split in (1, 2, 3):
                of = builder.key(BASE_TO_NOVEL, model=model, seed=seed, base_split=split)
                folder = builder.write_result(
                    tmp_path, builder.result(BASE_TO_NOVEL, of, lambda *_: 50.0)
                )
                for number, suite in enumerate(("base", "novel")):
                    builder.write_scores(
                        folder, suite, f"{suite}_val", labels=[i % 8 for i in range(64)], classes=8,
                        right=right - 0.2 * number, seed=number + 10 * split + 100 * seed,
                        weights=("raw",), checkpoints=("last",),
                    )  # fmt: skip
    comparison = compare(
        "tc_clip", "vifi_clip", "base_to_novel", outs=[tmp_path], demo=True, resamples=200
    )
    base, novel, hm = comparison.differences
    assert hm.a == pytest.approx(2 * base.a * novel.a / (base.a + novel.a))
    assert hm.over_videos[0] < hm.difference < hm.over_videos[1]
    assert hm.videos == 128 and not comparison.complaints


def test_videos_that_only_one_has_scored_are_left_out_and_named(tmp_path: Path) -> None:
    write_demo_run(tmp_path, "tc_clip", videos=64)
    write_demo_run(tmp_path, "vifi_clip", videos=60)
    comparison = compared(tmp_path, "tc_clip", "vifi_clip")
    assert comparison.differences[0].videos == 180
    assert comparison.differences[0].over_seeds is None
    assert "12 videos not scored by every model left out" in comparison.complaints[0]
    assert "12 videos not scored" in render(comparison, "terminal")


def test_unreadable_videos_count_as_wrong(tmp_path: Path) -> None:
    write_demo_run(tmp_path, "tc_clip", right=1.0, unreadable=range(64))
    write_demo_run(tmp_path, "vifi_clip", right=1.0)
    (one,) = compared(tmp_path, "tc_clip", "vifi_clip").differences
    assert (one.a, one.b) == (0.0, 100.0)


def test_parts_of_a_selection_come_in_any_order(tmp_path: Path) -> None:
    text = f"llm:{tmp_path}:vifi_clip:last:raw"
    assert parse_selection(text, ZERO_SHOT, ["runs"]) == Selection(
        text, (str(tmp_path),), "vifi_clip", "llm", "", "raw", "last"
    )
    plain = parse_selection("tc_clip", ZERO_SHOT, ["runs"])
    assert (plain.weights, plain.outs) == ("ensembled", ("runs",))
    remote = parse_selection("s3://bucket/out:clip", ZERO_SHOT, [])
    assert (remote.outs, remote.weights) == (("s3://bucket/out",), "raw")
    settings = parse_selection("train.lr=1e-5,model.prompt_layers=[6, 12]", ZERO_SHOT, [])
    assert settings.overrides == "model.prompt_layers=[6, 12], train.lr=1e-5"


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ("nope", "'nope' is no folder and none of model: clip, vifi_clip"),
        ("tc_clip:clip", "model given twice"),
        ("tc_clip:pretrained", "nothing to compare .* no complete model of tc_clip:pretrained"),
    ],
)
def test_refusals_name_the_selection(recorded: Path, a: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compared(recorded, a, "vifi_clip")


def test_a_selection_without_settings_takes_the_only_ones_there_are(tmp_path: Path) -> None:
    write_demo_run(tmp_path, "tc_clip", overrides=("train.epochs=2",))
    write_demo_run(tmp_path, "clip")
    comparison = compared(tmp_path, "tc_clip", "clip")
    assert comparison.a == "TC-CLIP [train.epochs=2], ensembled, best epoch"
    write_demo_run(tmp_path, "tc_clip", overrides=("train.epochs=3",))
    message = "settings train.epochs=2 or train.epochs=3; choose, for example tc_clip:train.epochs="
    with pytest.raises(ValueError, match=message):
        compared(tmp_path, "tc_clip", "clip")


def test_seeds_of_one_side_alone_and_results_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    for model, seed in (("tc_clip", 0), ("tc_clip", 1), ("clip", 0), ("clip", 2)):
        write_demo_run(tmp_path, model, seed=seed)
    said = "tc_clip has the seeds 0, 1, clip 0, 2; A - B is of all of them"
    assert said in " ".join(compared(tmp_path, "tc_clip", "clip").complaints)
    result = next(tmp_path.glob("runs/*clip*s2*/result.json"))
    result.write_text("{")
    complaints = " ".join(compared(tmp_path, "tc_clip", "clip").complaints)
    assert "half-written" in complaints and "tc_clip has the seeds 0, 1, clip 0;" in complaints
