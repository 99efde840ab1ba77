"""The classes' probabilities, with and without video-conditional prompting, as a chart."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from tcclip.explanation.prompting import ClassScores, softmax

#: The most probable classes that are shown, and those that prompting changes most.
BEST, CHANGED = 10, 5
WITH, WITHOUT = "#0072B2", "#E69F00"


def shown_classes(scores: ClassScores) -> list[int]:
    """The classes worth showing, most probable first."""
    shown = {*scores.best(BEST), *scores.most_changed(CHANGED)}
    return sorted(shown, key=lambda one: (-scores.logits[one], one))


def class_chart(scores: ClassScores) -> bytes:
    """A PNG file."""
    shown = shown_classes(scores)[::-1]
    prompted = scores.probabilities[shown] * 100
    figure = Figure(figsize=(8, 1.3 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    if scores.unprompted is None:
        bars = [axes.barh(range(len(shown)), prompted, 0.6, color=WITH)]
    else:
        plain = softmax(scores.unprompted)[shown] * 100
        above, below = ([at + shift for at in range(len(shown))] for shift in (0.2, -0.2))
        bars = [
            axes.barh(above, prompted, 0.38, color=WITH, label="with the video in the prompt"),
            axes.barh(below, plain, 0.38, color=WITHOUT, label="without"),
        ]
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
    for one in bars:
        axes.bar_label(one, fmt=" %.1f", fontsize=8)
    axes.set_yticks(range(len(shown)), [_short(scores.names[one]) for one in shown])
    axes.set(xlabel="probability (%)", xlim=(0, None))
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, dpi=150, format="png")
    return file.getvalue()


def _short(name: str, most: int = 45) -> str:
    # A dollar sign would begin a formula.
    name = name if len(name) <= most else f"{name[: most - 1]}…"
    return name.replace("$", r"\$")
