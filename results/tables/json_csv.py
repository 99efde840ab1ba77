"""A report for machines: JSON (the whole report) and CSV (the long table of statistics)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from results.report.report import Cell, Report, Row
from results.statistics.aggregate import Aggregated
from results.statistics.columns import Column
from results.statistics.mean_std import Estimate

#: Decimals of every written number: enough for any use, few enough to be the same everywhere.
DECIMALS = 6


def to_json(report: Report) -> str:
    """The report as JSON, numbers in percent: a line a field, a line a list's item."""
    fields = []
    for name, value in data(report).items():
        if isinstance(value, list) and value:
            items = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in value)
            fields.append(f' "{name}": [\n  {items}\n ]')
        else:
            fields.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


def data(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    protocol = report.protocol
    return {
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "title": protocol.title,
        "demo": protocol.demo,
        "complete": report.complete,
        "partial": report.partial,
        "runs": report.runs,
        "columns": [
            {
                "dataset": c.dataset, "title": c.title, "part": c.part, "metric": c.metric,
                "suite": c.suite, "views": c.views, "trained_on": c.trained_on,
                "units": list(c.units), "chance": _round(c.chance),
            }
            for c in report.columns
        ],
        "rows": [_row(report, row) for row in report.rows],
        "notes": list(report.notes),
        "remarks": list(report.general),
        "problems": [asdict(one) for one in report.problems],
        "unfinished": [
            {"run_id": one.run_id, "out": one.out, "state": one.state, "cause": one.cause}
            for one in report.unfinished
        ],
    }  # fmt: skip


def _row(report: Report, row: Row) -> dict[str, Any]:
    return {
        "title": row.title,
        "method": asdict(row.method) if row.method else None,
        "weights": row.weights,
        "checkpoint": row.checkpoint,
        "cells": [
            {"dataset": column.dataset, "part": column.part} | _cell(cell)
            for column, cell in zip(report.columns, row.cells, strict=True)
        ],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "ours": None if cell.ours is None else _aggregated(cell.ours),
        "published": cell.published.model_dump(mode="json") if cell.published else None,
        "difference": _round(cell.difference),
        "mark": cell.mark,
        "notes": [index + 1 for index in cell.notes],
    }


def _aggregated(one: Aggregated) -> dict[str, Any]:
    return {
        "paper": _estimate(one.paper),
        "seeds": _estimate(one.seeds),
        "per_seed": {str(seed): _estimate(value) for seed, value in one.per_seed.items()},
        "missing": list(one.missing),
        "partial": one.partial,
    }


def _estimate(one: Estimate | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "mean": _round(one.mean), "std": _round(one.std), "n": one.n, "ddof": one.ddof,
        "axis": one.axis,
    }  # fmt: skip


def _round(value: float | None) -> float | None:
    """At most `DECIMALS` decimals, and no negative zero."""
    return None if value is None else round(value, DECIMALS) + 0.0


CSV_COLUMNS = (
    "protocol", "title", "model", "variant", "overrides", "weights", "checkpoint", "dataset",
    "part", "metric", "numbers", "statistic", "axis", "n", "std_ddof", "value", "std",
    "difference", "mark", "chance", "partial", "missing", "notes", "source",
)  # fmt: skip


def to_csv(report: Report) -> str:
    """The long table of statistics: a row a number, ours (two statistics) and published."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        for column, cell in zip(report.columns, row.cells, strict=True):
            for line in _csv_lines(report, column, cell):
                writer.writerow(_csv_row(report, row, column) | line)
    return file.getvalue()


def _csv_row(report: Report, row: Row, column: Column) -> dict[str, Any]:
    method = {} if row.method is None else asdict(row.method)
    return {
        "protocol": report.protocol.name, "title": row.title, "weights": row.weights,
        "checkpoint": row.checkpoint, "dataset": column.dataset, "part": column.part,
        "metric": column.metric, "chance": _round(column.chance),
        **{name: method.get(name, "") for name in ("model", "variant", "overrides")},
    }  # fmt: skip


def _csv_lines(report: Report, column: Column, cell: Cell) -> Iterator[dict[str, Any]]:
    if cell.ours is not None:
        shared = {
            "numbers": "ours",
            "partial": cell.ours.partial,
            "missing": "; ".join(cell.ours.missing),
            "notes": "; ".join(report.notes[index] for index in cell.notes),
        }
        compared = {"difference": _round(cell.difference), "mark": cell.mark or ""}
        paper = "harmonic mean of the means" if column.part == "HM" else "mean"
        yield shared | compared | _csv_estimate(paper, cell.ours.paper)
        yield shared | _csv_estimate("mean", cell.ours.seeds)
    if cell.published is not None:
        one = cell.published
        yield {
            "numbers": "published", "statistic": one.statistic, "axis": one.axis, "n": one.n,
            "std_ddof": "" if one.ddof is None else one.ddof, "value": one.value,
            "std": "" if one.std is None else one.std, "source": one.source,
        }  # fmt: skip


def _csv_estimate(statistic: str, one: Estimate | None) -> dict[str, Any]:
    if one is None:
        return {"statistic": statistic}
    return {
        "statistic": statistic, "axis": one.axis, "n": one.n,
        "std_ddof": one.ddof if one.std is not None else "",
        "value": _round(one.mean), "std": "" if one.std is None else _round(one.std),
    }  # fmt: skip
