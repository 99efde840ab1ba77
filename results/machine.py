"""A report for machines: JSON (the whole report) and CSV (the long table of statistics)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from results.aggregate import Aggregated
from results.report import Cell, Report, Row
from results.statistics import Estimate

#: Decimals of every written number: enough for any use, few enough to be the same everywhere.
DECIMALS = 6


def to_json(report: Report) -> str:
    """The report as JSON, numbers in percent."""
    return json.dumps(data(report), indent=1, ensure_ascii=False) + "\n"


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
