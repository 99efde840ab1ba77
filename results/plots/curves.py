"""Learning curves from the runs' metrics.jsonl."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from results.reading.collect import Collected
from results.reading.location import location, read_bytes
from results.reading.metrics_log import read_epochs
from results.reading.run_folder import RunFolder
from results.statistics.aggregate import METHOD_COLUMNS, Method


@dataclass(frozen=True)
class Curve:
    """One run's epochs: mean training loss, and validation top-1 in percent where validated."""

    run_id: str
    method: Method
    trained_on: str
    point: str
    seed: int
    loss: Mapping[int, float]
    top1: Mapping[int, float]


def learning_curves(
    collected: Collected, methods: Container[Method]
) -> tuple[list[Curve], list[str]]:
    """(curves, complaints): of the finished runs of `methods` that kept their metrics.

    A complaint names a file with a line that is no record; the other lines are used.
    """
    table = collected.table.drop_duplicates("run_id").astype(
        {"shots": object, "base_split": object}
    )
    names = ["run_id", "out", *METHOD_COLUMNS, "trained_on", "shots", "base_split", "seed"]
    curves, complaints = [], []
    for row in zip(*(table[name].tolist() for name in names), strict=True):
        run_id, out, method = row[0], row[1], Method(*row[2:7])
        folder = RunFolder(location(out) / "runs" / run_id)
        data = read_bytes(folder.metrics) if method in methods else None
        if data is None:
            continue
        epochs, bad = read_epochs(data)
        loss = {one["epoch"]: float(one["loss"]) for one in epochs}
        top1 = {one["epoch"]: float(one["top1"]) for one in epochs if one.get("top1") is not None}
        if bad:
            file = folder.name_of(folder.metrics)
            complaints.append(f"{file}: {bad} lines not readable")
        if loss:
            point = _point(row[8], row[9])
            curves.append(Curve(run_id, method, row[7], point, row[10], loss, top1))
    return curves, complaints


def _point(shots: object, base_split: object) -> str:
    if isinstance(shots, int):
        return f"K={shots}"
    return f"s{base_split}" if isinstance(base_split, int) else ""


def by_method(curves: Sequence[Curve]) -> dict[tuple[str, Method, str], list[Curve]]:
    """(trained on, method, point) -> the seeds' curves."""
    groups: dict[tuple[str, Method, str], list[Curve]] = defaultdict(list)
    for curve in curves:
        groups[curve.trained_on, curve.method, curve.point].append(curve)
    # By length first: K=2 before K=16.
    return dict(
        sorted(groups.items(), key=lambda item: (*item[0][:2], len(item[0][2]), item[0][2]))
    )
