"""Learning curves from the runs' metrics.jsonl."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from results.reading.location import read_bytes
from results.reading.metrics_log import read_epochs
from results.statistics.runs import FinishedRun, Method, Point


@dataclass(frozen=True)
class Curve:
    """One run's epochs: mean training loss, and validation top-1 in percent where validated."""

    method: Method
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
    runs: Iterable[FinishedRun], methods: Container[Method], complaints: list[str]
) -> list[Curve]:
    """The curves of the runs of `methods` that kept their metrics.

    A file with a line that is no record adds to `complaints`; the other lines are used.
    """
    curves = []
    for run in runs:
        data = read_bytes(run.folder.metrics) if run.method in methods else None
        epochs, bad = read_epochs(data or b"")
        loss = {one["epoch"]: float(one["loss"]) for one in epochs}
        top1 = {one["epoch"]: float(one["top1"]) for one in epochs if one.get("top1") is not None}
        if bad:
            file = run.folder.name_of(run.folder.metrics)
            complaints.append(f"{file}: {bad} lines not readable")
        if loss:
            curves.append(Curve(run.method, run.point, loss, top1))
    return curves
