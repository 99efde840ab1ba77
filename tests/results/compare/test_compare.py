"""Paired bootstrap: against theory, against hand-made cases, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import protocols
from results.compare.compare import Comparison, compare, render, save_plot
from results.compare.selection import parse_selection
from results.records import Measurement
from results.statistics.bootstrap import Scored, interval, resample
from tests.results import builder, records

ZERO_SHOT = protocols.get("zero_shot")
DEMO = protocols.get("zero_shot", demo=True)
BASE_TO_NOVEL = protocols.get("base_to_novel", demo=True)


Bits = Sequence[int] | NDArray[np.int64]


def scored(right: Sequence[Sequence[Bits]], seeds: Sequence[int] | None = None) -> Scored:
    """`right` is (seeds, units, videos); every video is in every unit."""
    values = np.array(right, np.float64)
    return Scored(tuple(seeds or range(len(values))), values, np.ones(values.shape[1:]))


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(0))


def test_the_interval_is_the_normal_ones_for_many_videos() -> None:
    draws = generator()
    a = (draws.random(1000) < 0.6).astype(np.int64)
    b = np.where(draws.random(1000) < 0.8, a, 1 - a)
    drawn = resample(scored([[a]]), scored([[b]]), resamples=4000, generator=draws)
    low, high = interval(drawn.fixed[0] - drawn.fixed[1], 0.95)
    difference = a - b
    error = 196.0 * difference.std() / math.sqrt(len(a))
    assert (low + high) / 2 == pytest.approx(100 * difference.mean(), abs=0.15)
    assert (high - low) / 2 == pytest.approx(error, rel=0.05)


def test_pairing_makes_the_interval_of_equal_sides_empty() -> None:
    a = (generator().random(50) < 0.5).astype(np.int64)
    drawn = resample(scored([[a]]), scored([[a]]), resamples=500, generator=generator())
    assert interval(drawn.fixed[0] - drawn.fixed[1], 0.95) == (0.0, 0.0)


def test_a_video_in_three_splits_is_drawn_once_not_three_times() -> None:
    """The same list three times says no more than the list once."""
    draws = generator()
    a, b = (draws.random((2, 400)) < 0.5).astype(np.int64)
    once = resample(scored([[a]]), scored([[b]]), resamples=2000, generator=generator())
    thrice = resample(scored([[a] * 3]), scored([[b] * 3]), resamples=2000, generator=generator())
    assert np.allclose(once.fixed[0] - once.fixed[1], thrice.fixed[0] - thrice.fixed[1])


def test_seeds_are_drawn_where_there_are_several() -> None:
    always, never = [1] * 40, [0] * 40
    a, b = scored([[always], [never]]), scored([[never], [never]])
    drawn = resample(a, b, resamples=2000, generator=generator())
    assert interval(drawn.fixed[0] - drawn.fixed[1], 0.95) == (50.0, 50.0)
    assert drawn.seeds is not None
    # Both seeds, the good one twice, the bad one twice.
    assert set(np.round(drawn.seeds[0], 6)) == {0.0, 50.0, 100.0}
    assert resample(scored([[always]]), b, resamples=10, generator=generator()).seeds is None


def test_equal_seeds_are_paired_and_others_are_not() -> None:
    good, bad = [1] * 30, [0] * 30
    a = scored([[good], [bad]])
    paired = resample(a, scored([[good], [bad]]), resamples=500, generator=generator())
    apart = resample(a, scored([[good], [bad]], seeds=(5, 6)), resamples=500, generator=generator())
    assert paired.seeds is not None and apart.seeds is not None
    assert np.ptp(paired.seeds[0] - paired.seeds[1]) == 0
    assert np.ptp(apart.seeds[0] - apart.seeds[1]) == 200


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    records.write(folder)
    return folder


def compared(out: Path, a: str, b: str) -> Comparison:
    return compare(a, b, "zero_shot", outs=[out], demo=True, resamples=500)


def test_swapping_the_sides_swaps_the_signs(out: Path) -> None:
    (one,) = compared(out, "tc_clip", "vifi_clip").differences
    (other,) = compared(out, "vifi_clip", "tc_clip").differences
    assert one.difference == -other.difference
    assert one.over_videos == pytest.approx([-x for x in reversed(other.over_videos)])
    assert one.clear and one.seeds == (2, 2) and one.videos == 192
    assert one.per_seed is not None and one.per_seed.n == 2 and one.per_seed.ddof == 1


def test_the_difference_is_that_of_the_videos_right(out: Path) -> None:
    """Against accuracies counted from the kept scores directly."""
    from results.reading.predictions import read_predictions
    from results.reading.run_folder import RunFolder

    shares: dict[str, list[float]] = {"tc_clip": [], "vifi_clip": []}
    for model, found in shares.items():
        for seed in (0, 1):
            run_id = builder.run_id(builder.key(DEMO, model=model, seed=seed))
            for split in DEMO.suites[0].splits:
                one = read_predictions(
                    RunFolder(out / "runs" / run_id), "moving_shapes", split,
                    weights="raw", checkpoint="last",
                )  # fmt: skip
                assert one is not None
                found.append(100.0 * float((one.predicted() == one.labels).mean()))
    (difference,) = compared(out, "tc_clip:raw:last", "vifi_clip:raw:last").differences
    assert difference.a == pytest.approx(np.mean(shares["tc_clip"]))
    assert difference.b == pytest.approx(np.mean(shares["vifi_clip"]))


def test_the_same_seed_gives_the_same_text(out: Path) -> None:
    texts = {render(compared(out, "tc_clip", "clip"), "json") for _ in range(2)}
    assert len(texts) == 1
    data = json.loads(texts.pop())
    assert data["a"] == "TC-CLIP, ensembled, best epoch" and data["b"] == "CLIP, raw, best epoch"


def test_a_users_own_data_set_is_compared_too(tmp_path: Path) -> None:
    """Its column comes from the measured numbers; one that a single side has is named."""
    protocol = protocols.get("few_shot")
    for model, name, right in (
        ("tc_clip", "gestures", 1.0), ("vifi_clip", "gestures", 0.0), ("tc_clip", "signs", 1.0),
    ):  # fmt: skip
        of = builder.key(protocol, dataset=name, model=model, shots=4)
        measured = Measurement(
            suite=name, dataset=name, split="val", classes=5, views="2x1", weights="raw",
            checkpoint="best", metric="top1", value=100 * right, videos=20,
        )  # fmt: skip
        plain = builder.result(protocol, of.model_copy(update={"dataset": "hmdb51"}), lambda *_: 0)
        update = {"run_id": builder.run_id(of), "key": of, "measurements": (measured,)}
        folder = builder.write_result(tmp_path, plain.model_copy(update=update))
        builder.write_scores(
            folder, name, "val", labels=[i % 5 for i in range(20)], classes=5, right=right, seed=1,
            weights=("raw",), checkpoints=("best",),
        )  # fmt: skip
        if not right:  # what is drawn is right now and then
            never(folder / "predictions" / name / "val.parquet")
    made = compare("tc_clip", "vifi_clip", "few_shot", outs=[tmp_path], resamples=100)
    (one,) = made.differences
    assert (one.dataset, one.part, one.a, one.b) == ("gestures", "K=4", 100.0, 0.0)
    assert one.over_videos == (100.0, 100.0) and one.videos == 20
    assert "signs K=4: no complete model of vifi_clip" in made.complaints
    assert "| gestures K=4 | 100.0 | 0.0 | +100.0 * |" in render(made, "md")


def never(file: Path) -> None:
    """Give every video of a file of kept scores another label than its best class."""
    table = pq.read_table(file)
    scores = np.array(table["scores"].to_pylist())
    labels = pa.array((scores.argmax(axis=1) + 1) % scores.shape[1], pa.int32())
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", labels), file)


def test_formats_and_plot(out: Path, tmp_path: Path) -> None:
    comparison = compared(out, "tc_clip", "vifi_clip")
    assert max(map(len, render(comparison, "terminal").splitlines())) <= 100
    assert "| moving shapes top-1 |" in render(comparison, "md")
    for ending in ("svg", "png"):
        save_plot(comparison, tmp_path / f"plot.{ending}")
        assert (tmp_path / f"plot.{ending}").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"saved as \.svg or \.png"):
        save_plot(comparison, tmp_path / "plot.doc")
    with pytest.raises(ValueError, match="unknown format 'csv'; known: terminal, md, json"):
        render(comparison, "csv")


def test_two_sweeps_can_be_compared(out: Path, tmp_path: Path) -> None:
    records._demo(tmp_path)
    comparison = compare(
        str(out), f"{tmp_path}:tc_clip", "zero_shot", outs=[], demo=True, resamples=100
    )
    assert comparison.differences[0].difference == 0
    assert str(out) in comparison.a and str(tmp_path) in comparison.b


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


def test_videos_that_one_side_has_not_scored_are_left_out_and_named(tmp_path: Path) -> None:
    for model, videos in (("tc_clip", 64), ("vifi_clip", 60)):
        of = builder.key(DEMO, model=model, seed=0)
        folder = builder.write_result(tmp_path, builder.result(DEMO, of, lambda *_: 50.0))
        for split in DEMO.suites[0].splits:
            labels = [i % 16 for i in range(videos)]
            builder.write_scores(
                folder, "moving_shapes", split, labels=labels, classes=16, right=0.5, seed=1
            )
    comparison = compared(tmp_path, "tc_clip", "vifi_clip")
    assert comparison.differences[0].videos == 180
    assert comparison.differences[0].over_seeds is None
    assert "12 videos not scored by every model left out" in comparison.complaints[0]
    assert "12 videos not scored" in render(comparison, "terminal")


def test_unreadable_videos_count_as_wrong(tmp_path: Path) -> None:
    for model, unreadable in (("tc_clip", range(64)), ("vifi_clip", ())):
        of = builder.key(DEMO, model=model, seed=0)
        folder = builder.write_result(tmp_path, builder.result(DEMO, of, lambda *_: 50.0))
        for split in DEMO.suites[0].splits:
            builder.write_scores(
                folder, "moving_shapes", split, labels=[i % 16 for i in range(64)], classes=16,
                right=1.0, seed=1, unreadable=tuple(unreadable),
            )  # fmt: skip
    (one,) = compared(tmp_path, "tc_clip", "vifi_clip").differences
    assert (one.a, one.b) == (0.0, 100.0)


def test_sides_are_parsed_in_any_order(tmp_path: Path) -> None:
    side = parse_selection(f"llm:{tmp_path}:vifi_clip:last:raw", ZERO_SHOT, ["runs"])
    assert (side.model, side.variant, side.weights, side.checkpoint) == (
        "vifi_clip", "llm", "raw", "last",
    )  # fmt: skip
    assert side.outs == (str(tmp_path),)
    plain = parse_selection("tc_clip", ZERO_SHOT, ["runs"])
    assert (plain.weights, plain.outs) == ("ensembled", ("runs",))
    remote = parse_selection("s3://bucket/out:clip", ZERO_SHOT, [])
    assert (remote.outs, remote.weights) == (("s3://bucket/out",), "raw")
    settings = parse_selection("train.lr=1e-5,model.prompt_layers=[6, 12]", ZERO_SHOT, [])
    assert settings.overrides == "model.prompt_layers=[6, 12], train.lr=1e-5"


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ("nope", "'nope' is no folder and none of model: tc_clip"),
        ("tc_clip:clip", "model given twice"),
        ("tc_clip:pretrained", "nothing to compare .* no complete model of tc_clip:pretrained"),
    ],
)
def test_refusals_name_the_side(out: Path, a: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compared(out, a, "vifi_clip")


def test_a_side_without_settings_takes_the_only_ones_there_are(tmp_path: Path) -> None:
    for model, overrides in (("tc_clip", ("train.epochs=2",)), ("clip", ())):
        of = builder.key(DEMO, model=model, seed=0, overrides=overrides)
        folder = builder.write_result(tmp_path, builder.result(DEMO, of, lambda *_: 50.0))
        for split in DEMO.suites[0].splits:
            labels = [i % 16 for i in range(32)]
            builder.write_scores(
                folder, "moving_shapes", split, labels=labels, classes=16, right=0.5, seed=1
            )
    comparison = compared(tmp_path, "tc_clip", "clip")
    assert comparison.a == "TC-CLIP [train.epochs=2], ensembled, best epoch"
