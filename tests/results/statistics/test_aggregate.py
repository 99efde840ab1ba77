"""The paper's statistic and the one over seeds, against numbers computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import protocols
from results.report.report import Cell, Report, Row, report
from results.tables.formats import render
from tests.results import builder

ZERO_SHOT = protocols.get("zero_shot", demo=True)
BASE_TO_NOVEL = protocols.get("base_to_novel", demo=True)
FEW_SHOT = protocols.get("few_shot", demo=True)


def write_zero_shot(
    out: Path, values: dict[int, tuple[float, float, float]], **key: object
) -> None:
    """One run a seed; ensembled weights are 10 points better, the last epoch 1 point worse."""
    for seed, of_splits in values.items():

        def value(
            suite: str,
            split: str,
            metric: str,
            weights: str,
            epoch: str,
            v: tuple[float, ...] = of_splits,
        ) -> float:
            return v[int(split[-1]) - 1] + 10 * (weights == "ensembled") - (epoch == "last")

        of = builder.key(ZERO_SHOT, seed=seed, **key)
        builder.write_result(out, builder.result(ZERO_SHOT, of, value))


def cell(shown: Report, *, weights: str = "raw", column: int = 0, title: str = "TC-CLIP") -> Cell:
    return row(shown, weights=weights, title=title).cells[column]


def row(shown: Report, *, weights: str = "raw", title: str = "TC-CLIP") -> Row:
    (found,) = [r for r in shown.rows if r.title == title and r.weights == weights]
    return found


def test_splits_and_seeds_are_two_statistics(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30), 1: (22, 24, 26)})
    ours = cell(report(tmp_path, "zero_shot", demo=True)).ours
    assert ours is not None and ours.paper is not None and ours.seeds is not None
    # Means 20 and 24; population stds sqrt(200/3) and sqrt(8/3), averaged over the models.
    assert ours.paper.mean == pytest.approx(22)
    assert ours.paper.std == pytest.approx((math.sqrt(200 / 3) + math.sqrt(8 / 3)) / 2)
    assert (ours.paper.n, ours.paper.ddof, ours.paper.axis) == (3, 0, "splits")
    # Sample std of 20 and 24.
    assert ours.seeds.mean == pytest.approx(22)
    assert ours.seeds.std == pytest.approx(math.sqrt(8))
    assert (ours.seeds.n, ours.seeds.ddof, ours.seeds.axis) == (2, 1, "seeds")
    assert ours.per_seed[1].std == pytest.approx(math.sqrt(8 / 3))


def test_one_seed_has_no_std_over_seeds(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    shown = report(tmp_path, "zero_shot", demo=True)
    ours = cell(shown).ours
    assert ours is not None and ours.seeds is not None and ours.seeds.std is None
    line = next(text for text in render(shown, "md").splitlines() if "TC-CLIP | raw" in text)
    assert line.endswith("| ours, 1 seed | 20.0 ± 8.2 | 20.0 ± – |")
    assert "nan" not in render(shown, "json")


def test_raw_and_ensembled_best_and_last(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    shown = report(tmp_path, "zero_shot", demo=True, checkpoint="both")
    means = {
        (r.weights, r.checkpoint): r.cells[0].ours.paper.mean
        for r in shown.rows
        if r.cells[0].ours is not None and r.cells[0].ours.paper is not None
    }
    assert means == {
        ("raw", "best"): 20, ("raw", "last"): 19,
        ("ensembled", "best"): 30, ("ensembled", "last"): 29,
    }  # fmt: skip
    only = report(tmp_path, "zero_shot", demo=True, weights="ensembled", checkpoint="last")
    assert [(r.weights, r.checkpoint) for r in only.rows] == [("ensembled", "last")]


def write_base_to_novel(out: Path, values: dict[tuple[int, int], tuple[float, float]]) -> None:
    """(seed, base split) -> (base, novel)."""
    for (seed, split), (base, novel) in values.items():
        of = builder.key(BASE_TO_NOVEL, seed=seed, base_split=split)
        numbers = {"base": base, "novel": novel}
        builder.write_result(
            out, builder.result(BASE_TO_NOVEL, of, lambda suite, *_, n=numbers: n[suite])
        )


def test_harmonic_mean_of_the_means(tmp_path: Path) -> None:
    write_base_to_novel(tmp_path, {(0, 1): (60, 20), (0, 2): (70, 40), (0, 3): (80, 60)})
    shown = report(tmp_path, "base_to_novel", demo=True)
    base, novel, hm = (cell(shown, column=i).ours for i in range(3))
    assert base and novel and hm and base.paper and novel.paper and hm.paper and hm.seeds
    assert (base.paper.mean, novel.paper.mean) == (70, 40)
    assert base.paper.std == pytest.approx(math.sqrt(200 / 3))
    assert (base.paper.axis, base.paper.n, base.paper.ddof) == ("base splits", 3, 0)
    # Of the means, not the mean of three harmonic means (49.9).
    assert hm.paper.mean == pytest.approx(2 * 70 * 40 / 110)
    assert hm.paper.std is None and hm.seeds.std is None


def test_harmonic_mean_with_zero_is_zero(tmp_path: Path) -> None:
    write_base_to_novel(tmp_path, {(0, s): (50, 0) for s in (1, 2, 3)})
    hm = cell(report(tmp_path, "base_to_novel", demo=True), column=2).ours
    assert hm is not None and hm.paper is not None and hm.paper.mean == 0


def test_harmonic_mean_over_seeds_is_of_each_seeds_own(tmp_path: Path) -> None:
    seeds = {0: (50.0, 50.0), 1: (60.0, 30.0)}
    write_base_to_novel(tmp_path, {(seed, s): v for seed, v in seeds.items() for s in (1, 2, 3)})
    hm = cell(report(tmp_path, "base_to_novel", demo=True), column=2).ours
    assert hm is not None and hm.seeds is not None and hm.paper is not None
    assert hm.paper.mean == pytest.approx(2 * 55 * 40 / 95)
    assert hm.seeds.mean == pytest.approx(45)
    assert hm.seeds.n == 2
    assert hm.seeds.std == pytest.approx(math.sqrt(50))


def test_a_missing_base_split_gives_no_average_unless_partial(tmp_path: Path) -> None:
    write_base_to_novel(tmp_path, {(0, 1): (60, 20), (0, 2): (70, 40)})
    builder.write_failure(tmp_path, builder.key(BASE_TO_NOVEL, seed=0, base_split=3), "disk full")
    shown = report(tmp_path, "base_to_novel", demo=True)
    ours = cell(shown).ours
    assert ours is not None and ours.paper is None and ours.seeds is None
    assert ours.missing == ("seed 0, base split 3: failed: disk full",)
    assert "disk full" in render(shown, "md") and not shown.complete
    partial = report(tmp_path, "base_to_novel", demo=True, partial=True)
    some = cell(partial).ours
    assert some is not None and some.paper is not None and some.partial
    assert (some.paper.mean, some.paper.n) == (65, 2)
    assert "65.0 ± 5.0 (n=2)" in render(partial, "md")


def test_few_shot_points_are_columns_and_a_missing_one_is_its_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        for shots in (4, 8):
            of = builder.key(FEW_SHOT, seed=seed, shots=shots)
            if (seed, shots) == (1, 8):
                builder.write_spec(tmp_path, of)
                continue
            builder.write_result(
                tmp_path, builder.result(FEW_SHOT, of, lambda *_, v=shots + seed: float(v))
            )
    shown = report(tmp_path, "few_shot", demo=True)
    four, eight = (cell(shown, column=i).ours for i in (0, 1))
    assert four is not None and four.paper is not None and eight is not None
    assert (four.paper.mean, four.paper.std, four.paper.axis) == (4.5, None, "single run")
    assert eight.paper is None and eight.missing == ("seed 1, 8 shots: planned",)


def test_seeds_asked_for_and_not_there_are_missing(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    ours = cell(report(tmp_path, "zero_shot", demo=True, seeds=(0, 1))).ours
    assert ours is not None and ours.paper is None and ours.missing == ("seed 1: no such run",)


def test_a_seed_that_other_rows_have_is_named(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30), 1: (10, 20, 30)})
    write_zero_shot(tmp_path, {0: (1, 2, 3)}, model="vifi_clip")
    shown = report(tmp_path, "zero_shot", demo=True)
    assert "ViFi-CLIP: no run with seed 1, which other rows have" in shown.notes


def test_settings_make_their_own_row(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    write_zero_shot(tmp_path, {0: (40, 50, 60)}, overrides=("model.context_tokens=6",))
    shown = report(tmp_path, "zero_shot", demo=True)
    other = cell(shown, title="TC-CLIP [model.context_tokens=6]").ours
    assert other is not None and other.paper is not None and other.paper.mean == 50
