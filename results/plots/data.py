"""What the plots show: learning curves, and kept scores by test split."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from results.errors import StorageError
from results.reading.location import read_bytes
from results.reading.metrics_log import read_epochs
from results.reading.predictions import Confusion, Predictions, confusion
from results.report.report import Report
from results.statistics.columns import HARMONIC, Column
from results.statistics.runs import FinishedRun, Method, Point, published_weights

#: The split's title, and method title -> confusion over all its seeds (and base splits).
SplitScores = tuple[str, dict[str, Confusion]]


@dataclass(frozen=True)
class Curve:
    """One run's epochs: mean training loss, and validation top-1 in percent where validated.

    `title`: of its method.
    """

    method: Method
    title: str
    point: Point
    loss: Mapping[int, float]
    top1: Mapping[int, float]

    @property
    def point_title(self) -> str:
        """`K=4`, `s2` for a base split, or nothing."""
        if self.point.shots is not None:
            return f"K={self.point.shots}"
        return "" if self.point.base_split is None else f"s{self.point.base_split}"


def learning_curves(
    report: Report, methods: Container[Method], complaints: list[str]
) -> list[Curve]:
    """The curves of the report's runs of `methods` that kept their metrics.

    A file with a line that is no record adds to `complaints`; the other lines are used.
    """
    curves = []
    for run in report.finished:
        if run.method not in methods:
            continue
        try:
            data = read_bytes(run.folder.metrics)
        except StorageError as error:
            complaints.append(str(error))
            continue
        epochs, bad = read_epochs(data or b"")
        loss = {one["epoch"]: float(one["loss"]) for one in epochs}
        top1 = {one["epoch"]: float(one["top1"]) for one in epochs if one.get("top1") is not None}
        if bad:
            file = run.folder.name_of(run.folder.metrics)
            complaints.append(f"{file}: {bad} lines not readable")
        if loss:
            curves.append(Curve(run.method, report.titles.of(run.method), run.point, loss, top1))
    return curves


def split_scores(
    report: Report, methods: Sequence[Method], complaints: list[str]
) -> list[SplitScores]:
    """The scores of `methods` at the best epoch; a file that is not readable adds to `complaints`.

    Ensembled weights where the protocol has them; few-shot: of the models with the most shots.
    """
    most_shots = max((column.shots or 0 for column in report.columns), default=0) or None
    found: dict[tuple[str, str, str], SplitScores] = {}
    for column in report.columns:
        if column.part == HARMONIC or column.shots != most_shots:
            continue
        for split in column.splits:
            key = (column.suite, split, column.trained_on)
            if key in found:  # by another metric's column
                continue
            pooled = {
                report.titles.of(m): _pooled(report, m, column, split, complaints) for m in methods
            }
            shots = f", K={most_shots}" if most_shots else ""
            confusions = {title: one for title, one in pooled.items() if one is not None}
            found[key] = f"{column.title}, {split}{shots}", confusions
    return [scores for scores in found.values() if scores[1]]


def kept_scores(
    report: Report,
    method: Method,
    column: Column,
    lists: Collection[tuple[str, str]],
    complaints: list[str],
) -> Iterator[tuple[FinishedRun, Predictions]]:
    """The scores that a method's models for `column` kept of these (suite, split), at the best
    epoch."""
    weights = published_weights(report.protocol, method.model)
    for run in report.finished:
        point = run.point
        if (run.method, point.trained_on, point.shots) == (method, column.trained_on, column.shots):
            for suite, split in lists:
                one = run.scores(
                    suite, split, weights=weights, checkpoint="best", complaints=complaints
                )
                if one is not None:
                    yield run, one


def _pooled(
    report: Report, method: Method, column: Column, split: str, complaints: list[str]
) -> Confusion | None:
    """Over the method's models; None if none of them kept scores of this split."""
    lists = [(column.suite, split)]
    kept = [one for _, one in kept_scores(report, method, column, lists, complaints)]
    several = [one for one in kept if one.scores.shape[1] == kept[0].scores.shape[1]]
    if len(several) < len(kept):
        classes = kept[0].scores.shape[1]
        complaints.append(
            f"{report.titles.of(method)}, {column.title}, {split}: runs of {classes} classes alone"
        )
    return confusion(several) if several else None
