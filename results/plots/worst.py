"""The worst videos of each test data set: mistakes the model was surest of, contested classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from results.plots.data import kept_scores
from results.reading.predictions import Predictions
from results.report.report import Report
from results.statistics.columns import HARMONIC, Column
from results.statistics.runs import FinishedRun, Method
from tcclip import methods

if TYPE_CHECKING:
    import pandas as pd

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
    import pandas as pd

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
        lists = dict.fromkeys(
            (column.suite, split) for column in several for split in column.splits
        )
        kept = kept_scores(report, method, several[0], lists, complaints)
        usable = [one for one in kept if one[1].scores.shape[1] > 1 and one[1].readable.any()]
        videos = pd.concat([each_video(*one) for one in usable]) if usable else None
        if videos is not None and not videos["right"].all():
            found.append(
                WorstVideos(
                    dataset, several[0].title, report.titles.of(method), weights,
                    surest_mistakes(videos), contested(videos),
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


def each_video(run: FinishedRun, scores: Predictions) -> pd.DataFrame:
    """A row for each readable video of a list: the fields of `Video`, and whether it is `right`."""
    import pandas as pd

    rows = np.flatnonzero(scores.readable)
    labels, each = scores.labels[rows], np.arange(len(rows))
    shares = scores.scores[rows] / np.maximum(scores.scores[rows].sum(1, keepdims=True), 1e-12)
    others = shares.copy()
    others[each, labels] = -1.0
    rivals = others.argmax(1)
    names = np.array(scores.class_names)
    return pd.DataFrame(
        {
            "name": np.array(scores.videos)[rows],
            "true": names[labels],
            "taken": names[rivals],
            "of_true": shares[each, labels].astype(float),
            "of_taken": others[each, rivals].astype(float),
            "run": [run] * len(rows),
            "right": scores.predicted()[rows] == labels,
        }
    )


def surest_mistakes(videos: pd.DataFrame) -> tuple[Video, ...]:
    """The mistakes with the highest probability; `videos`: rows of `each_video`."""
    wrong = videos[~videos["right"]].sort_values("of_taken", ascending=False, kind="stable")
    return _first(wrong, MOST_MISTAKES)


def contested(videos: pd.DataFrame) -> tuple[Contested, ...]:
    """The classes whose videos are closest to a tie on average; `videos`: as above."""
    videos = videos.assign(distance=(videos["of_taken"] - videos["of_true"]).abs())
    classes = videos.groupby("true", sort=False)
    means = classes["distance"].mean().nsmallest(MOST_CLASSES)
    found = []
    for name, mean in means.items():
        own = classes.get_group(name)
        rival = Counter(own["taken"]).most_common(1)[0][0]
        closest = _first(own.sort_values("distance", kind="stable"), MOST_VIDEOS)
        right = int(own["right"].sum())
        found.append(Contested(str(name), rival, right, len(own), float(mean), closest))
    return tuple(found)


def _first(videos: pd.DataFrame, most: int) -> tuple[Video, ...]:
    """The first ones, each video once, whichever seed's model it is of."""
    rows = videos.drop_duplicates("name").head(most)[[*Video._fields]]
    return tuple(Video(*row) for row in rows.itertuples(index=False, name=None))
