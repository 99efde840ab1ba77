"""The worst videos of each test data set: mistakes the model was surest of, contested classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from results.plots.data import kept_scores
from results.reading.predictions import Predictions
from results.report.report import Report
from results.statistics.columns import HARMONIC, Column
from results.statistics.runs import FinishedRun, Method
from tcclip import methods

#: How many are shown of a data set, and of each contested class.
MOST_MISTAKES, MOST_CLASSES, MOST_VIDEOS = 6, 4, 2


class Video(NamedTuple):
    """A test video: its `true` class, the class it is `taken` for or was nearly taken for, the
    probabilities of both, 0 to 1, as the model of `run` gives them."""

    name: str
    true: str
    taken: str
    of_true: float
    of_taken: float
    run: FinishedRun

    @property
    def distance(self) -> float:
        """How far from a tie the two classes are."""
        return abs(self.of_taken - self.of_true)


@dataclass(frozen=True)
class Contested:
    """A class whose videos are close to a tie with another, its `rival` most often.

    `right` of its `total` videos are classified right; `distance`: mean over them, 0 to 1.
    """

    name: str
    rival: str
    right: int
    total: int
    distance: float
    videos: tuple[Video, ...]


@dataclass(frozen=True)
class WorstVideos:
    """Of one data set, by the `method` that is best on it, its seeds pooled."""

    dataset: str
    title: str
    method: str
    weights: str
    mistakes: tuple[Video, ...]
    contested: tuple[Contested, ...]


def worst_videos(report: Report, complaints: list[str]) -> list[WorstVideos]:
    """For each training and test data set that has kept scores of trained models.

    Selected epoch; ensembled weights where the protocol has them; few-shot: the most shots. A file
    that cannot be read adds to `complaints`.
    """
    most_shots = max((column.shots or 0 for column in report.columns), default=0) or None
    weights = "raw" if report.protocol.ensemble_weight is None else "ensembled"
    columns: dict[tuple[str, str], list[Column]] = defaultdict(list)
    for column in report.columns:
        if column.part != HARMONIC and column.shots == most_shots:
            columns[column.dataset, column.trained_on].append(column)
    found = []
    for (dataset, _), several in columns.items():
        method = _best(report, several[0], weights)
        if method is None:
            continue
        gathered = _Gathered()
        lists = dict.fromkeys(
            (column.suite, split) for column in several for split in column.splits
        )
        for run, scores in kept_scores(report, method, several[0], lists, complaints):
            gathered.add(run, scores)
        if gathered.surest:
            found.append(
                WorstVideos(
                    dataset, several[0].title, report.titles.of(method), weights,
                    tuple(_distinct(gathered.surest, MOST_MISTAKES)), gathered.contested(),
                )
            )  # fmt: skip
    return found


def _best(report: Report, column: Column, weights: str) -> Method | None:
    """The trained method with the highest number in a column."""
    at = report.columns.index(column)
    numbers = {
        row.method: ours.paper.mean
        for row in report.rows
        if row.method is not None and methods.shown(row.method.model).trained
        if (row.weights, row.checkpoint) == (weights, "best")
        if (ours := row.cells[at].ours) is not None and ours.paper is not None
    }
    return max(numbers, key=lambda method: numbers[method], default=None)


@dataclass
class _Gathered:
    """The surest mistakes so far, and by class the videos and how they compare."""

    surest: list[Video] = field(default_factory=list)
    distances: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    right: Counter[str] = field(default_factory=Counter)
    rivals: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    closest: dict[str, list[Video]] = field(default_factory=lambda: defaultdict(list))

    def add(self, run: FinishedRun, scores: Predictions) -> None:
        """The readable videos of a list."""
        if scores.scores.shape[1] < 2:
            return
        rows = np.flatnonzero(scores.readable)
        labels, each = scores.labels[rows], np.arange(len(rows))
        shares = scores.scores[rows] / np.maximum(scores.scores[rows].sum(1, keepdims=True), 1e-12)
        own = shares[each, labels]
        others = shares.copy()
        others[each, labels] = -1.0
        rivals = others.argmax(1)
        best = others[each, rivals]
        names = scores.class_names or tuple(f"class {i}" for i in range(shares.shape[1]))

        def video(i: int) -> Video:
            name, true, taken = scores.videos[rows[i]], names[labels[i]], names[rivals[i]]
            return Video(name, true, taken, float(own[i]), float(best[i]), run)

        wrong = np.flatnonzero(scores.predicted()[rows] != labels)
        for i in wrong[np.argsort(-best[wrong], kind="stable")][:MOST_MISTAKES]:
            self.surest.append(video(int(i)))
        distance = np.abs(best - own)
        for label in np.unique(labels):
            of_class, name = np.flatnonzero(labels == label), names[label]
            self.distances[name] += distance[of_class].tolist()
            self.right[name] += int((scores.predicted()[rows][of_class] == label).sum())
            self.rivals[name].update(names[rival] for rival in rivals[of_class])
            closest = of_class[np.argsort(distance[of_class], kind="stable")][:MOST_VIDEOS]
            self.closest[name] += [video(int(i)) for i in closest]
        self.surest.sort(key=lambda one: -one.of_taken)

    def contested(self) -> tuple[Contested, ...]:
        """The classes whose videos are closest to a tie on average."""
        means = {name: float(np.mean(values)) for name, values in self.distances.items()}
        return tuple(
            Contested(
                name, self.rivals[name].most_common(1)[0][0], self.right[name],
                len(self.distances[name]), means[name],
                tuple(_distinct(sorted(self.closest[name], key=lambda v: v.distance), MOST_VIDEOS)),
            )
            for name in sorted(means, key=lambda name: means[name])[:MOST_CLASSES]
        )  # fmt: skip


def _distinct(videos: Sequence[Video], most: int) -> list[Video]:
    """The first ones, each video once, whichever seed's model it is of."""
    found: dict[str, Video] = {}
    for one in videos:
        found.setdefault(one.name, one)
    return list(found.values())[:most]
