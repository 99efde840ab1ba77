"""The paper's statistic and the one over seeds, against numbers computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import protocols
from results.reading.run_filter import RunFilter
from results.report.report import Report, report
from results.report.shown import Shown
from results.statistics.aggregate import Aggregated
from results.statistics.mean_std import Estimate
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


def ours(
    shown: Report, column: int = 0, *, weights: str = "raw", title: str = "TC-CLIP"
) -> Aggregated:
    """Our cell of a row."""
    (row,) = [row for row in shown.rows if row.title == title and row.weights == weights]
    found = row.cells[column].ours
    assert found is not None
    return found


def averages(one: Aggregated) -> tuple[Estimate, Estimate]:
    """The paper's statistic and the one over seeds, of a cell that has both."""
    assert one.paper is not None and one.seeds is not None
    return one.paper, one.seeds


def test_splits_and_seeds_are_two_statistics(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30), 1: (22, 24, 26)})
    cell = ours(report(tmp_path, "zero_shot", demo=True))
    paper, seeds = averages(cell)
    # Means 20 and 24; population stds sqrt(200/3) and sqrt(8/3), averaged over the models.
    assert paper.mean == pytest.approx(22)
    assert paper.std == pytest.approx((math.sqrt(200 / 3) + math.sqrt(8 / 3)) / 2)
    assert (paper.n, paper.ddof, paper.axis) == (3, 0, "splits")
    # Sample std of 20 and 24.
    assert seeds.mean == pytest.approx(22)
    assert seeds.std == pytest.approx(math.sqrt(8))
    assert (seeds.n, seeds.ddof, seeds.axis) == (2, 1, "seeds")
    assert cell.per_seed[1].std == pytest.approx(math.sqrt(8 / 3))


def test_one_seed_has_no_std_over_seeds(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    shown = report(tmp_path, "zero_shot", demo=True)
    assert averages(ours(shown))[1].std is None
    line = next(text for text in render(shown, "md").splitlines() if "TC-CLIP | raw" in text)
    assert line.endswith("| ours, 1 seed | 20.0 ± 8.2 | 20.0 ± – |")
    assert "nan" not in render(shown, "json")


def test_raw_and_ensembled_best_and_last(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    shown = report(tmp_path, "zero_shot", demo=True, checkpoint="both")
    means = {
        (row.weights, row.checkpoint): row.cells[0].ours.paper.mean
        for row in shown.rows
        if row.cells[0].ours is not None and row.cells[0].ours.paper is not None
    }
    assert means == {
        ("raw", "best"): 20, ("raw", "last"): 19,
        ("ensembled", "best"): 30, ("ensembled", "last"): 29,
    }  # fmt: skip
    only = report(tmp_path, "zero_shot", demo=True, weights="ensembled", checkpoint="last")
    assert [(row.weights, row.checkpoint) for row in only.rows] == [("ensembled", "last")]


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
    (base, _), (novel, _), (hm, hm_seeds) = (averages(ours(shown, column)) for column in range(3))
    assert (base.mean, novel.mean) == (70, 40)
    assert base.std == pytest.approx(math.sqrt(200 / 3))
    assert (base.axis, base.n, base.ddof) == ("base splits", 3, 0)
    # Of the means, not the mean of three harmonic means (49.9).
    assert hm.mean == pytest.approx(2 * 70 * 40 / 110)
    assert hm.std is None and hm_seeds.std is None


def test_harmonic_mean_over_seeds_is_of_each_seeds_own(tmp_path: Path) -> None:
    seeds = {0: (50.0, 50.0), 1: (60.0, 30.0)}
    write_base_to_novel(tmp_path, {(seed, s): v for seed, v in seeds.items() for s in (1, 2, 3)})
    paper, over_seeds = averages(ours(report(tmp_path, "base_to_novel", demo=True), 2))
    assert paper.mean == pytest.approx(2 * 55 * 40 / 95)
    assert over_seeds.mean == pytest.approx(45)
    assert over_seeds.n == 2
    assert over_seeds.std == pytest.approx(math.sqrt(50))


def test_a_missing_base_split_gives_no_average_unless_partial(tmp_path: Path) -> None:
    write_base_to_novel(tmp_path, {(0, 1): (60, 20), (0, 2): (70, 40)})
    builder.write_failure(tmp_path, builder.key(BASE_TO_NOVEL, seed=0, base_split=3), "disk full")
    shown = report(tmp_path, "base_to_novel", demo=True)
    cell = ours(shown)
    assert cell.paper is None and cell.seeds is None
    assert cell.missing == ("seed 0, base split 3: failed: disk full",)
    assert "disk full" in render(shown, "md") and not shown.complete
    partial = report(tmp_path, "base_to_novel", demo=True, partial=True)
    paper, _ = averages(ours(partial))
    assert ours(partial).partial and (paper.mean, paper.n) == (65, 2)
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
    four, eight = averages(ours(shown, 0))[0], ours(shown, 1)
    assert (four.mean, four.std, four.axis) == (4.5, None, "single run")
    assert eight.paper is None and eight.missing == ("seed 1, 8 shots: planned",)


def test_seeds_asked_for_and_not_there_are_missing(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    cell = ours(report(tmp_path, "zero_shot", demo=True, shown=Shown(RunFilter(seeds=(0, 1)))))
    assert cell.paper is None and cell.missing == ("seed 1: no such run",)


def test_settings_make_their_own_row(tmp_path: Path) -> None:
    write_zero_shot(tmp_path, {0: (10, 20, 30)})
    write_zero_shot(tmp_path, {0: (40, 50, 60)}, overrides=("model.context_tokens=6",))
    shown = report(tmp_path, "zero_shot", demo=True)
    assert averages(ours(shown, title="TC-CLIP [model.context_tokens=6]"))[0].mean == 50
