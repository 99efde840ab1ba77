"""The published numbers: complete, and reproduced exactly when fed through as results."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import protocols
from protocols.datasets import DATASETS
from protocols.protocol import Protocol
from results.published.numbers import PublishedNumber, published, published_rows
from results.records import Result, RunKey
from results.report.report import Report, report
from results.statistics.mean_std import harmonic_mean
from results.tables.formats import render
from tests.results import builder


def spread_over_three(mean: float, std: float | None) -> tuple[float, float, float]:
    """Three values with this mean and this population std."""
    step = (std or 0.0) * math.sqrt(1.5)
    return mean - step, mean, mean + step


def unrounded(base: float, novel: float, hm: float) -> tuple[float, float]:
    """Means that print as `base` and `novel` and whose harmonic mean prints as `hm`."""
    for i in sorted(range(-49, 50), key=abs):
        for j in sorted(range(-49, 50), key=abs):
            b, n = base + i / 1000, novel + j / 1000
            if abs(harmonic_mean(b, n) - hm) < 0.0499:
                return b, n
    raise AssertionError(f"no {base} and {novel} have the harmonic mean {hm}")


def rows() -> dict[tuple[str, str, str], dict[tuple[str, str], list[PublishedNumber]]]:
    """(protocol, model, variant) -> (dataset, part) -> figures, of the models that are ours."""
    found: dict[tuple[str, str, str], dict[tuple[str, str], list[PublishedNumber]]] = {}
    for one in published():
        if one.model is not None:
            row = found.setdefault((one.protocol, one.model, one.variant), {})
            row.setdefault((one.dataset, one.part), []).append(one)
    return found


def as_results() -> Iterator[Result]:
    """The published figures as results of runs."""
    for (name, model, variant), figures in rows().items():
        protocol = protocols.get(name)
        for run in _keys(protocol, model, variant, figures):
            yield builder.result(protocol, run, _value(protocol, run, figures))


def _keys(protocol: Protocol, model: str, variant: str, figures: object) -> Iterator[RunKey]:
    for trained_on in protocol.datasets:
        if (variant, trained_on) in protocol.undefined:
            continue
        if variant == "llm" and all(one.llm is None for one in DATASETS[trained_on].label_sets):
            continue
        for point in protocol.axis_values or (None,):
            axis = {protocol.axis: point} if protocol.axis else {}
            yield builder.key(protocol, dataset=trained_on, model=model, variant=variant, **axis)


def _value(
    protocol: Protocol, run: RunKey, figures: dict[tuple[str, str], list[PublishedNumber]]
) -> builder.Value:
    def value(suite: str, split: str, metric: str, weights: str, checkpoint: str) -> float:
        if protocol.name == "base_to_novel":
            base, novel, hm = (figures[run.dataset, p][0].value for p in ("base", "novel", "HM"))
            means = dict(zip(("base", "novel"), unrounded(base, novel, hm), strict=True))
            return spread_over_three(means[suite], 1.0)[(run.base_split or 0) - 1]
        if protocol.name == "zero_shot":
            for one in figures[suite, "top1"]:
                if one.ensembled == (weights == "ensembled"):
                    return spread_over_three(one.value, one.std)[int(split[-1]) - 1]
            return 1.0
        if protocol.name == "few_shot":
            return figures[suite, f"K={run.shots}"][0].value if metric == "top1" else 99.0
        return figures[suite, metric][0].value

    return value


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for one in as_results():
        builder.write_result(folder, one)
    return folder


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_published_numbers_as_results_print_the_published_tables(out: Path, name: str) -> None:
    shown = report(out, name)
    assert shown.complete
    compared = 0
    for cell in (cell for row in shown.rows if row.method is not None for cell in row.cells):
        if cell.published is None:
            continue
        assert cell.ours is not None and cell.ours.paper is not None
        assert f"{cell.ours.paper.mean:.1f}" == f"{cell.published.value:.1f}"
        if cell.published.std is not None:
            assert f"{cell.ours.paper.std:.1f}" == f"{cell.published.std:.1f}"
            assert cell.mark == "within"
        compared += 1
    # CLIP is never ensembled and has no fine-tuned row elsewhere: every figure has its run.
    assert compared == sum(one.protocol == name and one.model is not None for one in published())
    assert _printed_differences(shown) <= {"0.0", "0.0 ≈"}


def _printed_differences(shown: Report) -> set[str]:
    lines = [line for line in render(shown, "md").splitlines() if "| difference |" in line]
    assert lines
    cells = {cell.strip() for line in lines for cell in line.split("|")[5:-1]}
    return cells - {"–"}


def test_the_zero_shot_table_is_the_papers(out: Path) -> None:
    line = "| TC-CLIP (LLM) | ensembled | ours, 1 seed | 56.0 ± 0.3 | 56.0 ± – | 85.4 ± 0.8 | "
    assert line in render(report(out, "zero_shot"), "md")


def test_every_figure_of_the_tables_is_there_once() -> None:
    counts = {
        name: sum(one.protocol == name for one in published()) for name in protocols.PROTOCOLS
    }
    assert counts == {
        "zero_shot": 17 * 3, "few_shot": 4 * 12, "base_to_novel": (11 * 4 + 3 + 1) * 3,
        "fully_supervised": 4 * 2,
    }  # fmt: skip
    places = [(one.protocol, one.row, one.dataset, one.part) for one in published()]
    assert len(set(places)) == len(places)


def test_published_harmonic_means_follow_from_the_published_means() -> None:
    """Within what rounding to one decimal allows."""
    for row in published_rows("base_to_novel"):
        for data in {one.dataset for one in row}:
            base, novel, hm = (one.value for one in row if one.dataset == data)
            unrounded(base, novel, hm)


def test_what_is_not_comparable_is_marked_and_both_values_of_clip_are_shown(out: Path) -> None:
    text = render(report(out, "zero_shot"), "md")
    notes = dict(re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE))
    digits = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")

    def note(figure: str) -> str:
        marked = re.search(rf"published \| {re.escape(figure)}([⁰¹²³⁴⁵⁶⁷⁸⁹]*) ", text)
        assert marked is not None, figure
        return notes.get(marked[1].translate(digits), "")

    assert note("53.9 ± 1.2") == note("55.8") == "not comparable: 8 frames, 16 here"
    assert note("51.3 ± 0.6") == "not comparable: 32 frames, 16 here"
    assert "language model" in note("53.1 ± 0.1") and note("50.3 ± 0.8") == ""
    for value in ("40.8", "47.9 ± 0.5"):
        assert "two published zero-shot values" in note(value)
    row = next(line for line in text.splitlines() if line.startswith("| Open-VCLIP | ensembled"))
    assert "ours, 1 seed" in row, "our Open-VCLIP beside the published row"
    assert "README of ZMHH-H/MoTE (ViT-B/16, 8 frames, 3x1 views)" in text
    assert "frames not stated, views not stated" in text


def test_a_difference_within_what_seeds_do_is_said(tmp_path: Path) -> None:
    """54.2 was published; the t-interval of seeds at 54.0, 54.5, 55.0 is 54.5 ± 2.48."""
    protocol = protocols.get("zero_shot")
    for seed, mean in enumerate((54.0, 54.5, 55.0)):
        key = builder.key(protocol, dataset="k400", seed=seed)
        builder.write_result(tmp_path, builder.result(protocol, key, lambda *_: mean))  # noqa: B023
    shown = report(tmp_path, "zero_shot", weights="ensembled")
    (row,) = (row for row in shown.rows if row.method is not None)
    within, beyond = (
        next(cell for column, cell in zip(shown.columns, row.cells, strict=True)
             if column.dataset == name) for name in ("hmdb51", "ucf101")
    )  # fmt: skip
    assert within.noise == pytest.approx(4.302653 * 0.5 * math.sqrt(4 / 3))
    line = next(one for one in render(shown, "md").splitlines() if "| difference |" in one)
    assert "| +0.3 ≈ | within ±2.5 |" in line and "| -28.4 ↓ | beyond ±2.5 |" in line
    assert beyond.noise == within.noise


def test_no_std_is_over_one_value() -> None:
    assert all(one.n > 1 for one in published() if one.std is not None)
