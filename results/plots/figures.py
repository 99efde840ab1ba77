"""The plots. matplotlib and pandas are imported only when one is made."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from results.plots.data import Curve
from results.reading.predictions import Confusion
from results.report.report import Report
from results.statistics.runs import Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colours: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
#: Of a legend's text: characters an inch, a line's height in inches.
_CHARACTERS, _LINE = 13, 0.16
#: Width of an inch on a page: a figure of 9 inches is as wide as its text.
_REM = 6.2
#: Classes up to which each has its name beside it.
_NAMED_CLASSES = 60


def _subplots(columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """A figure of `columns` axes side by side; width and height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def to_svg(figure: Figure) -> str:
    """The figure as an <svg> element: the same bytes for the same numbers."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    # Text stays text, ids come from a fixed salt, and no date is written.
    fixed: Any = {"svg.fonttype": "none", "svg.hashsalt": "tcclip", "font.family": "sans-serif"}
    file = io.StringIO()
    with mpl.rc_context(fixed):
        # Laid out here, at SVG's 72 dots an inch: `savefig` would draw all of it twice.
        FigureCanvasSVG(figure)
        figure.dpi = 72
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    # The page may shrink it: the viewBox keeps the shape.
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg[svg.index("<svg") :], count=2)
    size = f"{figure.get_figwidth() * _REM:.1f}rem"
    return svg.replace("<svg", f'<svg style="--size: {size}"', 1)


def save(figure: Figure, path: Path) -> None:
    """The figure as a file: svg, png with 150 dots an inch, or another of matplotlib's formats.

    ValueError for an unknown one.
    """
    if path.suffix == ".svg":
        path.write_text(to_svg(figure), encoding="utf-8")
    else:
        figure.savefig(path, dpi=150)


def learning(curves: Sequence[Curve]) -> Figure:
    """Training loss and validation top-1 by epoch; a line a method and point, band over seeds."""
    unordered: dict[tuple[Method, str], list[Curve]] = defaultdict(list)
    for curve in curves:
        unordered[curve.method, curve.point_title].append(curve)
    # Points by length first: K=2 before K=16.
    groups = sorted(unordered.items(), key=lambda group: (group[0][0], len(group[0][1]), group[0]))
    methods = list(dict.fromkeys(method for (method, _), _ in groups))
    points = list(dict.fromkeys(point for (_, point), _ in groups))
    figure, (left, right) = _subplots(2, 9.0, 3.2)
    for (method, point), several in groups:
        style = {
            "color": COLOURS[methods.index(method) % len(COLOURS)],
            "linestyle": _DASHES[points.index(point) % len(_DASHES)],
        }
        label = f"{several[0].title} {point}".strip()
        _band(left, [curve.loss for curve in several], label, style)
        _band(right, [curve.top1 for curve in several], label, style)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation top-1 (%)")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, left)
    return figure


def _band(axes: Any, several: Sequence[Mapping[int, float]], label: str, style: Any) -> None:
    """The mean over seeds, with a band from the lowest to the highest."""
    import pandas as pd

    values = pd.DataFrame(several).sort_index(axis=1)  # a row a seed, a column an epoch
    if values.empty:
        return
    epochs, marker = values.columns, "o" if len(values.columns) < 15 else None
    axes.plot(
        epochs, values.mean(), label=label, marker=marker, markersize=3, linewidth=1.4, **style
    )
    if len(several) > 1:
        band = {"alpha": 0.15, "linewidth": 0, "color": style["color"]}
        axes.fill_between(epochs, values.min(), values.max(), **band)
    axes.grid(alpha=0.25)


def _legend(figure: Figure, axes: Any) -> None:
    """What the lines of `axes` are, below the plots, which keep their height."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    room = int(_CHARACTERS * figure.get_figwidth())
    labels = [textwrap.fill(label, room - 5) for label in labels]
    columns = max(1, min(4, len(labels), room // max(map(len, labels))))
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )
    lines = math.ceil(len(labels) / columns) + sum(label.count("\n") for label in labels)
    figure.set_figheight(figure.get_figheight() + _LINE * (lines - 1))


def few_shot(report: Report) -> Figure:
    """Top-1 over shots, a panel a data set: ours solid with std over seeds, published dashed."""
    datasets = list(dict.fromkeys((c.dataset, c.title) for c in report.columns))
    figure, panels = _subplots(len(datasets), 3.0 * len(datasets) + 0.6, 3.4)
    for panel, (dataset, title) in zip(panels, datasets, strict=True):
        for number, row in enumerate(report.rows):
            colour = COLOURS[number % len(COLOURS)]
            cells = [
                (column.shots, cell)
                for column, cell in zip(report.columns, row.cells, strict=True)
                if column.dataset == dataset
            ]
            ours = [(k, c.ours.seeds) for k, c in cells if c.ours and c.ours.seeds]
            if ours:
                panel.errorbar(
                    [k for k, _ in ours], [one.mean for _, one in ours],
                    yerr=[one.std or 0.0 for _, one in ours], color=colour, marker="o",
                    markersize=4, capsize=3, linewidth=1.4, label=f"{row.title}, ours",
                )  # fmt: skip
            published = [(k, c.published.value) for k, c in cells if c.published]
            if published:
                panel.plot(
                    [k for k, _ in published], [v for _, v in published], color=colour,
                    linestyle="--", marker="x", markersize=5, linewidth=1,
                    label=f"{row.title}, published",
                )  # fmt: skip
        shots = sorted({c.shots for c in report.columns if c.shots})
        panel.set_xscale("log", base=2)
        panel.set_xticks(shots, [str(k) for k in shots])
        panel.set(title=title, xlabel="shots a class")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("top-1 (%)")
    _legend(figure, panels[0])
    return figure


def per_class(named: Mapping[str, Confusion]) -> Figure:
    """Accuracy of every class, a dot a method; classes sorted by the last method's accuracy."""
    accuracies = {title: one.accuracy() for title, one in named.items()}
    main = list(named)[-1]
    order = np.argsort(np.nan_to_num(accuracies[main], nan=-1.0), kind="stable")
    names = named[main].names
    few = len(names) <= _NAMED_CLASSES
    figure, (axes,) = _subplots(1, 6.5, max(2.5, 0.17 * len(names) + 1.2) if few else 5.0)
    places = np.arange(len(names))
    for number, (title, accuracy) in enumerate(accuracies.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.scatter(accuracy[order], places, s=22 if few else 8, color=colour, label=title)
    axes.set(xlim=(-3, 103), ylim=(-0.8, len(names) - 0.2), xlabel="top-1 of the class (%)")
    if few:
        axes.set_yticks(places, [names[i] for i in order], fontsize=8)
    else:
        axes.set_ylabel(f"{len(names)} classes, sorted")
        axes.set_yticks([])
    axes.grid(alpha=0.25)
    _legend(figure, axes)
    return figure


def confusion(title: str, one: Confusion) -> Figure:
    """Rows: true classes, columns: predicted ones; percent of the true class's videos."""
    shares = 100.0 * one.counts / np.maximum(one.totals[:, None], 1)
    figure, (axes,) = _subplots(1, 5.2, 4.4)
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
    axes.set(xlabel="predicted class", ylabel="true class", title=textwrap.fill(title, 40))
    if len(one.names) <= _NAMED_CLASSES // 2:
        axes.set_xticks(range(len(one.names)), one.names, rotation=90, fontsize=6)
        axes.set_yticks(range(len(one.names)), one.names, fontsize=6)
    figure.colorbar(image, label="% of the true class's videos")
    return figure


def differences(
    names: Sequence[str], intervals: Sequence[tuple[float, float, float]], title: str
) -> Figure:
    """Differences with their confidence intervals: (difference, low, high), percentage points."""
    figure, (axes,) = _subplots(1, 6.5, 0.45 * len(names) + 1.6)
    places = list(range(len(names)))[::-1]
    for place, (middle, low, high) in zip(places, intervals, strict=True):
        clear = low > 0 or high < 0
        colour = COLOURS[0] if clear else "#777777"
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot([middle], [place], "o", color=colour, markersize=6)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_yticks(places, names, fontsize=9)
    axes.set(ylim=(-0.6, len(names) - 0.4), xlabel="difference, percentage points")
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", alpha=0.25)
    return figure
