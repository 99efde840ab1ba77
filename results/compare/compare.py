"""Is one better than the other? Differences with paired bootstrap confidence intervals.

`compare` is what `tcclip compare A B` calls; `render` prints its answer, `save_plot` draws it.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import protocols
from results.compare.sides import Scores, paired, parse_side
from results.statistics.bootstrap import Resampled, Scored, interval, resample
from results.statistics.columns import HARMONIC, Column, columns
from results.statistics.mean_std import SEEDS_DDOF, Estimate, estimate, harmonic_mean
from results.tables.text_grid import NOTHING, count, signed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMATS = ("terminal", "md", "json")
RESAMPLES = 10_000
CONFIDENCE = 0.95
#: A line break in Markdown.
_BREAK = "  \n"
#: Complaints that an error repeats.
_REASONS = 3
#: Characters a line of the terminal's caption.
_WIDTH = 100


@dataclass(frozen=True)
class Difference:
    """One column: both sides and a - b in percent, with intervals from the bootstrap.

    `over_videos`: videos drawn, the seeds there are averaged. `over_seeds`: seeds drawn too; None
    with a single seed on a side. `per_seed`: of the differences of the seeds both sides have.
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

    @property
    def difference(self) -> float:
        return self.a - self.b

    @property
    def clear(self) -> bool:
        """Whether the widest interval there is does not hold 0."""
        low, high = self.over_seeds or self.over_videos
        return low > 0 or high < 0


@dataclass(frozen=True)
class Comparison:
    """A comparison of two sides under one protocol. `complaints`: what was left out, and why."""

    protocol: str
    a: str
    b: str
    differences: tuple[Difference, ...]
    complaints: tuple[str, ...]
    resamples: int
    confidence: float


@dataclass(frozen=True)
class _Resamples:
    """A column's sides, their resamples, and each seed's percent right."""

    a: Scored
    b: Scored
    drawn: Resampled


def compare(
    a: str,
    b: str,
    protocol: str,
    *,
    outs: Sequence[Path | str],
    demo: bool = False,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Comparison:
    """Compare side `a` with side `b` (see `sides.parse_side`), column by column of `protocol`,
    users' own data sets in the runs of either side included.

    `outs` are the folders of a side that names none. The same `seed` gives the same intervals.
    ValueError for an unknown protocol or side, for nothing to compare, and for a confidence
    outside (0, 1); FileNotFoundError for a missing folder.
    """
    import numpy as np
    import pandas as pd

    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence {confidence} and resamples {resamples}: allowed are a confidence "
            "between 0 and 1 and at least one resample"
        )
    definition = protocols.get(protocol, demo=demo)
    sides = [Scores(parse_side(text, definition, outs), definition) for text in (a, b)]
    complaints: list[str] = []
    drawn: dict[tuple[str, str], _Resamples] = {}
    differences: list[Difference] = []
    generator = np.random.Generator(np.random.PCG64(seed))
    for column in columns(definition, pd.concat([side.measured for side in sides])):
        if column.part == HARMONIC:
            halves = [drawn.get((column.dataset, half)) for half in ("base", "novel")]
            differences += _harmonic(column, halves, confidence)
        else:
            one = _resamples(column, sides, complaints, resamples, generator)
            if one is not None:
                drawn[column.key] = one
                differences.append(_difference(column, one, confidence))
    titles = [side.side.title for side in sides]
    if not differences:
        reasons = "; ".join(list(dict.fromkeys(complaints))[:_REASONS])
        raise ValueError(f"nothing to compare of {titles[0]} and {titles[1]}: {reasons}")
    return Comparison(
        protocol, *_names(sides, titles), tuple(differences), tuple(dict.fromkeys(complaints)),
        resamples, confidence,
    )  # fmt: skip


def _names(sides: Sequence[Scores], titles: Sequence[str]) -> tuple[str, str]:
    """The sides' names; with their folders where those differ."""
    outs = [side.side.outs for side in sides]
    if outs[0] == outs[1]:
        return titles[0], titles[1]
    return tuple(f"{t} ({', '.join(o)})" for t, o in zip(titles, outs, strict=True))  # type: ignore[return-value]


def _resamples(
    column: Column,
    sides: Sequence[Scores],
    complaints: list[str],
    resamples: int,
    generator: np.random.Generator,
) -> _Resamples | None:
    found = [side.of(column, complaints) for side in sides]
    place = f"{column.title} {column.part_title}"
    for side, scores in zip(sides, found, strict=True):
        if not scores:
            complaints.append(f"{place}: no complete model of {side.side.name}")
    if not all(found):
        return None
    a, b, left_out = paired(found[0], found[1], column.units)
    if left_out:
        complaints.append(f"{place}: {count(left_out, 'video')} not scored by every model left out")
    if not a.there.any(axis=1).all():
        complaints.append(f"{place}: a split has no video that both sides scored")
        return None
    return _Resamples(a, b, resample(a, b, resamples=resamples, generator=generator))


def _difference(column: Column, one: _Resamples, confidence: float) -> Difference:
    a, b = one.a.means(), one.b.means()
    return _made(column, one, a, b, one.drawn, confidence, one.a.there.shape[1])


def _harmonic(
    column: Column, halves: Sequence[_Resamples | None], confidence: float
) -> list[Difference]:
    """The harmonic mean of the means, in every resample; base and novel videos drawn apart."""
    base, novel = halves
    if base is None or novel is None or base.a.seeds != novel.a.seeds:
        return []
    if base.b.seeds != novel.b.seeds:
        return []
    a, b = _hm(base.a.means(), novel.a.means()), _hm(base.b.means(), novel.b.means())
    fixed = _pair(base.drawn.fixed, novel.drawn.fixed)
    seeds = None
    if base.drawn.seeds is not None and novel.drawn.seeds is not None:
        seeds = _pair(base.drawn.seeds, novel.drawn.seeds)
    videos = base.a.there.shape[1] + novel.a.there.shape[1]
    made = _made(column, base, a, b, Resampled(fixed, seeds), confidence, videos)
    # Of the means over the seeds, as the report has it; the list above is seed by seed.
    means = [
        harmonic_mean(float(x.means().mean()), float(y.means().mean()))
        for x, y in ((base.a, novel.a), (base.b, novel.b))
    ]
    return [Difference(**(vars(made) | {"a": means[0], "b": means[1]}))]


_Pair = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def _pair(base: _Pair, novel: _Pair) -> _Pair:
    return _hm(base[0], novel[0]), _hm(base[1], novel[1])


def _hm(base: NDArray[np.float64], novel: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.array([harmonic_mean(x, y) for x, y in zip(base, novel, strict=True)], np.float64)


def _made(
    column: Column,
    one: _Resamples,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    drawn: Resampled,
    confidence: float,
    videos: int,
) -> Difference:
    of_a, of_b = dict(zip(one.a.seeds, a, strict=True)), dict(zip(one.b.seeds, b, strict=True))
    both = [float(of_a[s] - of_b[s]) for s in of_a if s in of_b]
    drawn_seeds = None
    if drawn.seeds is not None:
        drawn_seeds = interval(drawn.seeds[0] - drawn.seeds[1], confidence)
    return Difference(
        dataset=column.title, part=column.part_title, a=float(a.mean()), b=float(b.mean()),
        over_videos=interval(drawn.fixed[0] - drawn.fixed[1], confidence),
        over_seeds=drawn_seeds,
        per_seed=estimate(both, axis="seeds", ddof=SEEDS_DDOF) if both else None,
        videos=videos, seeds=(len(one.a.seeds), len(one.b.seeds)),
    )  # fmt: skip


def render(comparison: Comparison, format: str) -> str:
    """The comparison as text; ValueError naming the formats there are."""
    if format == "json":
        return json.dumps(_data(comparison), indent=1, ensure_ascii=False) + "\n"
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    share = f"{100 * comparison.confidence:g} %"
    heads = ["", "A", "B", "A - B", "over videos", "and seeds", "by seed", "videos"]
    rows = [_cells(one) for one in comparison.differences]
    table = _markdown(heads, rows) if format == "md" else _aligned(heads, rows)
    caption = [
        f"A: {comparison.a}", f"B: {comparison.b}",
        f"Percent, differences in percentage points; {share} percentile intervals of "
        f"{comparison.resamples} paired bootstrap resamples over videos, and over videos and "
        "seeds. By seed: mean ± sample std (ddof 1) of the seeds both have. *: the interval "
        "does not hold 0.",
        *comparison.complaints,
    ]  # fmt: skip
    if format == "md":
        return f"{table}\n\n{_BREAK.join(caption)}\n"
    lines = [part for text in caption for part in textwrap.wrap(text, _WIDTH)]
    return "\n".join([table, "", *lines]) + "\n"


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


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rules = [":---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rules, *rows))


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, *rows):
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _data(comparison: Comparison) -> dict[str, object]:
    rows = [
        asdict(one) | {"difference": one.difference, "clear": one.clear}
        for one in comparison.differences
    ]
    return asdict(comparison) | {"differences": rows}


def save_plot(comparison: Comparison, path: Path | str) -> None:
    """Draw the differences and their widest intervals to a .svg or .png file."""
    from results.plots import figures as plots

    names = [f"{one.dataset} {one.part}" for one in comparison.differences]
    intervals = [
        (one.difference, *(one.over_seeds or one.over_videos)) for one in comparison.differences
    ]
    figure = plots.differences(names, intervals, f"{comparison.a}\nminus {comparison.b}")
    path = Path(path)
    if path.suffix == ".svg":
        path.write_text(plots.to_svg(figure))
    elif path.suffix == ".png":
        plots.save_png(figure, path)
    else:
        raise ValueError(f"{path}: a plot is saved as .svg or .png")
