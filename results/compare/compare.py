"""Differences of two methods with paired bootstrap confidence intervals.

`compare` is what `tcclip compare A B` calls; `render` prints its answer, `save_plot` draws it.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import protocols
from results.compare.power import ERROR, MOST_SEEDS, POWER, SURE, Power
from results.compare.power import power as power_of
from results.compare.selection import SelectedRuns, paired, parse_selection
from results.plots import figures
from results.printing import aligned, printable
from results.reading.run_filter import EVERY_RUN, RunFilter
from results.report.shown import Shown
from results.statistics.bootstrap import Resampled, interval, resample
from results.statistics.columns import HARMONIC, Column, columns
from results.statistics.mean_std import SEEDS_DDOF, Estimate, estimate, harmonic_mean
from results.tables.text_table import NOTHING, count, signed

RESAMPLES = 10_000
CONFIDENCE = 0.95
#: Complaints that an error repeats.
_REASONS = 3
#: Characters a line of the terminal's caption.
_WIDTH = 100


@dataclass(frozen=True)
class Difference:
    """One column: both methods and a - b in percent, with intervals from the bootstrap.

    `over_videos`: videos drawn, the seeds there are averaged. `over_seeds`: seeds drawn too; None
    where one method has a single seed. `per_seed`: of the differences of the seeds both have.
    `power`: what would show a difference of the size asked for.
    """

    dataset: str
    part: str
    a: float
    b: float
    over_videos: tuple[float, float]
    over_seeds: tuple[float, float] | None
    per_seed: Estimate | None
    videos: int
    seeds: tuple[int, int]
    power: Power | None = None

    @property
    def difference(self) -> float:
        return self.a - self.b

    @property
    def interval(self) -> tuple[float, float]:
        """The widest there is."""
        return self.over_seeds or self.over_videos

    @property
    def clear(self) -> bool:
        """Whether the widest interval does not hold 0."""
        low, high = self.interval
        return low > 0 or high < 0


@dataclass(frozen=True)
class Comparison:
    """Method A against method B in one protocol. `complaints`: what was left out, and why."""

    protocol: str
    a: str
    b: str
    differences: tuple[Difference, ...]
    complaints: tuple[str, ...]
    resamples: int
    confidence: float


@dataclass(frozen=True)
class _Compared:
    """A column's numbers of both methods, in percent. `means` (2,); `by_seed`: a value a seed."""

    means: NDArray[np.float64]
    by_seed: tuple[pd.Series[float], pd.Series[float]]
    drawn: Resampled
    videos: int


def compare(
    a: str,
    b: str,
    protocol: str,
    *,
    outs: Sequence[Path | str],
    demo: bool = False,
    resamples: int = RESAMPLES,
    runs: RunFilter = EVERY_RUN,
    power: float | None = None,
) -> Comparison:
    """Compare selection `a` with `b` (see `parse_selection`), column by column of `protocol`,
    users' own data sets in the runs of either included.

    `outs` are the folders of a selection that names none; of its runs those of the filter `runs`
    are compared. `power`: also say what would show a difference of so many points. The same runs
    give the same intervals.
    ValueError for an unknown protocol or part of a selection and for nothing to compare;
    FileNotFoundError for a missing folder.
    """
    whole = protocols.get(protocol, demo=demo)
    shown = Shown(runs)
    definition, meant = shown.narrowed(whole), shown.runs_of(whole)
    both = [
        SelectedRuns(parse_selection(text, definition, outs), definition, meant) for text in (a, b)
    ]
    complaints = [text for runs in both for text in runs.complaints]
    compared: dict[tuple[str, str], _Compared] = {}
    differences: list[Difference] = []
    generator = np.random.Generator(np.random.PCG64(0))
    for column in shown.asked(columns(definition, *(runs.collected for runs in both))):
        if column.part == HARMONIC:
            base, novel = (compared.get((column.dataset, half)) for half in ("base", "novel"))
            one = _harmonic(base, novel)
        else:
            one = _compared(column, both, complaints, resamples, generator)
        if one is not None:
            compared[column.key] = one
            differences.append(_difference(column, one, power))
    complaints = list(dict.fromkeys(complaints))
    titles = [runs.selection.title for runs in both]
    if not differences:
        reasons = "; ".join(complaints[:_REASONS]) or "there is no complete model of either"
        raise ValueError(f"nothing to compare of {titles[0]} and {titles[1]}: {reasons}")
    outs_of = [", ".join(runs.selection.outs) for runs in both]
    if outs_of[0] != outs_of[1]:
        titles = [f"{title} ({own})" for title, own in zip(titles, outs_of, strict=True)]
    return Comparison(
        protocol, titles[0], titles[1], tuple(differences), tuple(complaints), resamples, CONFIDENCE
    )


def _compared(
    column: Column,
    both: Sequence[SelectedRuns],
    complaints: list[str],
    resamples: int,
    generator: np.random.Generator,
) -> _Compared | None:
    outcomes = [runs.outcomes(column, complaints) for runs in both]
    place = f"{column.title} {column.part_title}"
    names = [runs.selection.name for runs in both]
    missing = [name for name, found in zip(names, outcomes, strict=True) if found.empty]
    if missing:
        if len(missing) == 1:  # of neither: a data set that is not theirs
            complaints.append(f"{place}: no complete model of {missing[0]}")
        return None
    a, b, left_out = paired(outcomes[0], outcomes[1], column.units)
    if left_out:
        complaints.append(f"{place}: {count(left_out, 'video')} not scored by every model left out")
    if not a.there.any(axis=1).all():
        complaints.append(f"{place}: a split has no video that both scored")
        return None
    if a.seeds != b.seeds:
        seeds = [", ".join(map(str, one.seeds)) for one in (a, b)]
        complaints.append(
            f"{place}: {names[0]} has the seeds {seeds[0]}, {names[1]} {seeds[1]}; A - B is of all "
            "of them, by seed of those that both have"
        )
    once = np.ones((1, a.there.shape[1]))
    of_a, of_b = a.percent(once)[0], b.percent(once)[0]
    by_seed = pd.Series(of_a, list(a.seeds)), pd.Series(of_b, list(b.seeds))
    means = np.array([of_a.mean(), of_b.mean()])
    drawn = resample(a, b, resamples=resamples, generator=generator)
    return _Compared(means, by_seed, drawn, videos=a.there.shape[1])


def _harmonic(base: _Compared | None, novel: _Compared | None) -> _Compared | None:
    """The harmonic mean of the means, in every resample; base and novel videos drawn apart.

    None where base and novel have different seeds.
    """
    if base is None or novel is None:
        return None
    (base_a, base_b), (novel_a, novel_b) = base.by_seed, novel.by_seed
    if not (base_a.index.equals(novel_a.index) and base_b.index.equals(novel_b.index)):
        return None
    seeds = None
    if base.drawn.seeds is not None and novel.drawn.seeds is not None:
        seeds = harmonic_mean(base.drawn.seeds, novel.drawn.seeds)
    return _Compared(
        harmonic_mean(base.means, novel.means),
        (harmonic_mean(base_a, novel_a), harmonic_mean(base_b, novel_b)),
        Resampled(harmonic_mean(base.drawn.fixed, novel.drawn.fixed), seeds),
        base.videos + novel.videos,
    )


def _difference(column: Column, one: _Compared, points: float | None) -> Difference:
    (a, b), drawn = one.by_seed, one.drawn.fixed[0] - one.drawn.fixed[1]
    per_seed = (a - b).dropna().tolist()
    over_seeds = None
    if one.drawn.seeds is not None:
        over_seeds = interval(one.drawn.seeds[0] - one.drawn.seeds[1], CONFIDENCE)
    return Difference(
        dataset=column.title, part=column.part_title, a=float(one.means[0]), b=float(one.means[1]),
        over_videos=interval(drawn, CONFIDENCE),
        over_seeds=over_seeds,
        per_seed=estimate(per_seed, axis="seeds", ddof=SEEDS_DDOF) if per_seed else None,
        videos=one.videos, seeds=(len(a), len(b)),
        power=None if points is None else power_of(points, a, b, drawn, one.videos),
    )  # fmt: skip


def render(comparison: Comparison, format: str) -> str:
    """The comparison as text: "terminal", "md" or "json"."""
    if format == "json":
        data = asdict(comparison)
        for row, one in zip(data["differences"], comparison.differences, strict=True):
            row |= {"difference": one.difference, "clear": one.clear}
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    share = f"{100 * comparison.confidence:g} %"
    titles = ["", "A", "B", "A - B", "over videos", "and seeds", "by seed", "videos"]
    rows = [_cells(one) for one in comparison.differences]
    lay_out = _markdown if format == "md" else _aligned
    table, about_power = lay_out(titles, rows), _power_table(comparison)
    if about_power is not None:
        table += f"\n\n{lay_out(*about_power[:2])}"
    caption = [
        f"A: {comparison.a}", f"B: {comparison.b}",
        f"Percent, differences in percentage points; {share} percentile intervals of "
        f"{comparison.resamples} paired bootstrap resamples over videos, and over videos and "
        "seeds. By seed: mean ± sample std (ddof 1) of the seeds both have. *: the interval "
        "does not hold 0.",
        *([about_power[2]] if about_power is not None else []),
        *comparison.complaints,
    ]  # fmt: skip
    if format == "md":
        line_break = "  \n"
        return f"{table}\n\n{line_break.join(caption)}\n"
    lines = [part for text in caption for part in textwrap.wrap(printable(text), _WIDTH)]
    return "\n".join([table, "", *lines]) + "\n"


def _power_table(comparison: Comparison) -> tuple[list[str], list[list[str]], str] | None:
    """Titles, rows and caption of what `power` says; None if it was not asked for."""
    asked = [(one, one.power) for one in comparison.differences if one.power is not None]
    if not asked:
        return None
    titles = ["", "std by seed", "seeds", "at most", "there are", "std over videos", "videos",
              "there are"]  # fmt: skip
    rows = [
        [
            f"{one.dataset} {one.part}",
            NOTHING if own.seed_std is None else f"{own.seed_std:.2f}",
            *(_needed(n, own.seed_std) for n in (own.seeds, own.seeds_at_most)),
            str(min(one.seeds)), f"{own.video_std:.2f}", f"{own.videos:,}", f"{one.videos:,}",
        ]
        for one, own in asked
    ]  # fmt: skip
    points, chance, error, sure = asked[0][1].points, 100 * POWER, 100 * ERROR, 100 * SURE
    caption = (
        f"What would show a difference of {points:g} points with {chance:g} % power (two-sided, "
        f"{error:g} %): so many seeds of each method on these test videos; at most so many if the "
        f"std by seed is as large as those there are leave open ({sure:g} %); so many test videos "
        "with the seeds there are."
    )
    return titles, rows, caption


def _needed(seeds: int | None, std: float | None) -> str:
    """A number of seeds; "2 first" where a std by seed takes two seeds of both methods."""
    if std is None:
        return "2 first"
    return f"over {MOST_SEEDS:,}" if seeds is None else f"{seeds:,}"


def _cells(one: Difference) -> list[str]:
    by_seed = NOTHING
    if one.per_seed is not None:
        std = NOTHING if one.per_seed.std is None else f"{one.per_seed.std:.1f}"
        by_seed = f"{signed(one.per_seed.mean)} ± {std} (n={one.per_seed.n})"
    return [
        f"{one.dataset} {one.part}", f"{one.a:.1f}", f"{one.b:.1f}",
        signed(one.difference) + (" *" if one.clear else ""),
        _interval(one.over_videos), _interval(one.over_seeds), by_seed, str(one.videos),
    ]  # fmt: skip


def _interval(one: tuple[float, float] | None) -> str:
    return NOTHING if one is None else f"[{signed(one[0])}, {signed(one[1])}]"


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rules = [":---", *["---:"] * (len(titles) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (titles, rules, *rows))


def _aligned(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head, _rule, *lines = aligned(titles, rows, left=1)
    return "\n".join([head, *lines])


def save_plot(comparison: Comparison, path: Path | str | None) -> None:
    """Draw the differences and their widest intervals to a .svg or .png file, if one is named."""
    if path is None:
        return
    names = [f"{one.dataset} {one.part}" for one in comparison.differences]
    intervals = [(one.difference, *one.interval) for one in comparison.differences]
    title = f"{comparison.a}\nminus {comparison.b}"
    figures.save(figures.differences(names, intervals, title), Path(path))
