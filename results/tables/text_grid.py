"""A report as a grid of texts: what every printed format shows, before its own decoration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from results.report.report import Cell, Report, Row
from results.statistics.columns import HARMONIC, Column, statistic_words
from results.statistics.mean_std import Estimate

NOTHING = "–"
MARKS = {"within": "≈", "above": "↑", "below": "↓"}
LABELS = {"model": "Model", "weights": "Weights", "epoch": "Epoch", "numbers": ""}
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Text:
    """A printed cell: its text, footnote numbers (1-based) and what it is, for colour."""

    text: str
    notes: tuple[int, ...] = ()
    kind: str = ""

    @property
    def marked(self) -> str:
        """The text with its footnotes as superscript digits."""
        return self.text + superscript(self.notes)


@dataclass(frozen=True)
class Heading:
    """A pair of columns of one number: the paper's statistic, and the one over seeds."""

    dataset: str
    part: str
    paper: str
    seeds: str = "over seeds"

    @property
    def title(self) -> str:
        return f"{self.dataset} {self.part}".strip()


@dataclass(frozen=True)
class Line:
    """A printed line: labels (as `Grid.labels` names them) and two texts a heading.

    `first`: of its row; the lines after it repeat the row's labels but for the last.
    """

    labels: tuple[str, ...]
    texts: tuple[Text, ...]
    first: bool

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """The labels without those that the line above has already."""
        return self.labels if self.first else ("",) * (len(self.labels) - 1) + self.labels[-1:]


@dataclass(frozen=True)
class Grid:
    """One printed table. `labels`: titles of the label columns; the last one's is empty."""

    labels: tuple[str, ...]
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]


def grid(report: Report, wanted: Sequence[Column] | None = None) -> Grid:
    """The table of `wanted` columns (default: all), and of the rows that have any of them.

    Weights and epoch have a column of their own only where they differ between rows.
    """
    picked = [i for i, column in enumerate(report.columns) if wanted is None or column in wanted]
    shown = {
        "model": True,
        "weights": len({row.weights for row in report.rows}) > 1,
        "epoch": len({row.checkpoint for row in report.rows}) > 1,
        "numbers": True,
    }
    kept = [i for i, there in enumerate(shown.values()) if there]
    lines: list[Line] = []
    for row in report.rows:
        lines += _row_lines(row, [row.cells[i] for i in picked])
    if lines:
        lines.append(_chance_line([report.columns[i] for i in picked]))
    return Grid(
        tuple(list(LABELS.values())[i] for i in kept),
        tuple(_headings(report, picked)),
        tuple(replace(line, labels=tuple(line.labels[i] for i in kept)) for line in lines),
    )


def panels(report: Report) -> list[list[Column]]:
    """The columns by data set, as the paper's tables group them."""
    return [list(group) for _, group in groupby(report.columns, key=lambda c: c.dataset)]


def _headings(report: Report, picked: Sequence[int]) -> list[Heading]:
    alone = len(report.columns) == len(panels(report))
    return [
        Heading(
            column.title,
            "" if alone and column.part == "top1" else column.part_title,
            statistic_words(report.protocol, len(column.units)),
        )
        for column in (report.columns[i] for i in picked)
    ]


def _row_lines(row: Row, cells: Sequence[Cell]) -> list[Line]:
    kinds = {
        "ours": any(cell.ours is not None for cell in cells),
        "published": any(cell.published is not None for cell in cells),
        "difference": any(cell.difference is not None for cell in cells),
    }
    seeds = _common_seeds(cells)
    lines: list[Line] = []
    for kind in (kind for kind, there in kinds.items() if there):
        words = f"ours, {count(seeds, 'seed')}" if kind == "ours" and seeds else kind
        texts = tuple(text for cell in cells for text in _TEXTS[kind](cell, seeds))
        labels = (row.title, row.weights, row.checkpoint, words)
        lines.append(Line(labels, texts, first=not lines))
    return lines


def _common_seeds(cells: Sequence[Cell]) -> int | None:
    """The most common n over seeds of a row, named once; other cells name their own."""
    counts = Counter(cell.ours.seeds.n for cell in cells if cell.ours and cell.ours.seeds)
    return counts.most_common(1)[0][0] if counts else None


def _ours(cell: Cell, common: int | None) -> tuple[Text, Text]:
    if cell.ours is None:
        return Text(NOTHING), Text(NOTHING)
    notes = tuple(index + 1 for index in cell.notes)
    if cell.ours.paper is None or cell.ours.seeds is None:
        return Text("incomplete", notes, "missing"), Text(NOTHING)
    kind = "partial" if cell.ours.partial else "ours"
    paper, seeds = number(cell.ours.paper), number(cell.ours.seeds)
    if cell.ours.partial:
        paper += f" (n={cell.ours.paper.n})"
    if cell.ours.seeds.n != common:
        seeds += f" (n={cell.ours.seeds.n})"
    return Text(paper, notes, kind), Text(seeds, (), kind)


def _published(cell: Cell, common: int | None) -> tuple[Text, Text]:
    if cell.published is None:
        return Text(NOTHING), Text(NOTHING)
    std = "" if cell.published.std is None else f" ± {cell.published.std:.1f}"
    return Text(f"{cell.published.value:.1f}{std}", (), "published"), Text(NOTHING)


def _difference(cell: Cell, common: int | None) -> tuple[Text, Text]:
    if cell.difference is None:
        return Text(NOTHING), Text(NOTHING)
    mark = f" {MARKS[cell.mark]}" if cell.mark else ""
    return Text(signed(cell.difference) + mark, (), cell.mark or "difference"), Text(NOTHING)


_TEXTS = {"ours": _ours, "published": _published, "difference": _difference}


def _chance_line(columns: Sequence[Column]) -> Line:
    texts = [text for c in columns for text in (Text(f"{c.chance:.2f}", (), "chance"), Text(""))]
    return Line(("chance", "", "", ""), tuple(texts), first=True)


def number(one: Estimate) -> str:
    """`54.2 ± 0.7`; `54.2 ± –` where a std needs more values; `54.2` where none is defined."""
    if one.std is not None:
        return f"{one.mean:.1f} ± {one.std:.1f}"
    spread_exists = one.axis == "seeds" or (one.axis != "single run" and one.n < 2)
    return f"{one.mean:.1f} ± {NOTHING}" if spread_exists else f"{one.mean:.1f}"


def count(n: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def superscript(notes: Sequence[int]) -> str:
    """Footnote numbers as superscript digits."""
    return ",".join(str(note).translate(_SUPERSCRIPTS) for note in notes)


def signed(value: float) -> str:
    """A difference in percentage points with its sign; 0.0 has none."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text


def caption(report: Report) -> list[str]:
    """What the numbers are: statistic, axis, n, the std's divisor, epoch, weights, marks."""
    lines = [
        "Percent of videos; an unreadable video counts as wrong.",
        _paper_words(report),
        "Over seeds: mean ± sample std (ddof 1) of the models' means, n seeds. "
        f"{NOTHING}: not there, or the std of a single value.",
    ]
    if any(column.part == HARMONIC for column in report.columns):
        lines.append("HM: harmonic mean of the two means; over seeds: of each seed's own HM.")
    if any(row.has_published and row.has_ours for row in report.rows):
        lines.append(
            "Difference: ours - published; ≈ within, ↑ above, ↓ below the published std "
            "(no mark: none was published)."
        )
    general = [f"{text}." for text in report.general]
    return [*lines, *_same_for_all(report), *general, *_sources(report)]


def _sources(report: Report) -> list[str]:
    """Where the published rows come from, and with how many frames if that is known."""
    rows: dict[str, list[str]] = {}
    for row in report.rows:
        for one in (cell.published for cell in row.cells if cell.published is not None):
            frames = f", {one.frames} frames" if one.frames else ""
            name = f"{row.title} {row.weights}" if report.protocol.ensemble_weight else row.title
            names = rows.setdefault(one.source + frames, [])
            names += [] if name in names else [name]
    words = [f"{', '.join(names)}: {source}" for source, names in rows.items()]
    return [f"Published: {'; '.join(words)}."] if words else []


def _paper_words(report: Report) -> str:
    words = statistic_words(report.protocol, len(report.columns[0].units))
    if words == "single run":
        return "Single run: a model's number; with several seeds the mean of theirs."
    several = "with several seeds mean and std are each averaged over the seeds"
    text = f"{words}: mean ± std (ddof {report.protocol.statistic.ddof}) of one model; {several}."
    return text[0].upper() + text[1:]


def _same_for_all(report: Report) -> list[str]:
    """What the table has no column for, because it is the same in every row."""
    words = []
    ours = [row for row in report.rows if row.has_ours]
    if ours and len({row.checkpoint for row in report.rows}) == 1:
        rule = f" ({report.protocol.selection.replace('_', ' ')})"
        words.append(f"{ours[0].checkpoint} epoch{rule if ours[0].checkpoint == 'best' else ''}")
    if ours and len({row.weights for row in report.rows}) == 1:
        words.append(f"{ours[0].weights} weights")
    return [f"All rows: {', '.join(words)}."] if words else []
