"""A report for machines: JSON (the whole report) and CSV (a line a number)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from results.report.report import Report, Row
from results.statistics.columns import HARMONIC

#: Decimals of every written number: enough for any use, few enough to be the same everywhere.
DECIMALS = 6


def to_json(report: Report) -> str:
    """The report as JSON, numbers in percent: a line a field, a line a list's item."""
    fields = []
    for name, value in _data(report).items():
        if isinstance(value, list) and value:
            items = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in value)
            fields.append(f' "{name}": [\n  {items}\n ]')
        else:
            fields.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _data(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    protocol = report.protocol
    data = {
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "title": protocol.title,
        "demo": protocol.demo,
        "complete": report.complete,
        "partial": report.partial,
        "runs": len(report.finished),
        "columns": [
            {name: one for name, one in asdict(column).items() if name not in ("splits", "shots")}
            for column in report.columns
        ],
        "rows": [_row(report, row) for row in report.rows],
        "notes": report.notes,
        "remarks": report.general,
        "problems": [asdict(one) for one in report.problems],
        "unfinished": [
            {"run_id": one.run_id, "out": one.out, "state": one.state, "cause": one.cause}
            for one in report.unfinished
        ],
    }
    return {name: _rounded(value) for name, value in data.items()}


def _row(report: Report, row: Row) -> dict[str, Any]:
    cells = [
        {
            "dataset": column.dataset,
            "part": column.part,
            "ours": None if cell.ours is None else asdict(cell.ours),
            "published": None if cell.published is None else cell.published.model_dump(),
            "difference": cell.difference,
            "mark": cell.mark,
            "seed_noise": cell.noise,
            "notes": cell.notes,
            "published_notes": cell.published_notes,
        }
        for column, cell in zip(report.columns, row.cells, strict=True)
    ]
    return {
        "title": row.title,
        "title_notes": row.notes,
        "method": asdict(row.method) if row.method else None,
        "weights": row.weights,
        "checkpoint": row.checkpoint,
        "cells": cells,
    }


def _rounded(value: Any) -> Any:
    """`value` with at most `DECIMALS` decimals in every number, and no negative zero."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value


_CSV_COLUMNS = (
    "protocol", "title", "model", "variant", "overrides", "weights", "checkpoint", "dataset",
    "part", "metric", "numbers", "statistic", "axis", "n", "std_ddof", "value", "std",
    "difference", "mark", "seed_noise", "chance", "partial", "missing", "notes", "backbone",
    "frames", "published_views", "source",
)  # fmt: skip


def to_csv(report: Report) -> str:
    """A line a number, ours (two statistics) and published."""
    data, file = _data(report), io.StringIO()
    writer = csv.DictWriter(file, _CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    no_method = {"model": "", "variant": "", "overrides": ""}
    for row in data["rows"]:
        of_row = (row["method"] or no_method) | row | {"protocol": data["protocol"]}
        for column, cell in zip(data["columns"], row["cells"], strict=True):
            for line in _csv_lines(column, cell, data["notes"]):
                writer.writerow(line | column | of_row)
    return file.getvalue()


def _csv_lines(
    column: dict[str, Any], cell: dict[str, Any], notes: list[str]
) -> Iterator[dict[str, Any]]:
    """The numbers of a cell of the JSON report."""
    ours, published = cell["ours"], cell["published"]
    if ours is not None:
        shared = {
            "numbers": "ours",
            "partial": ours["partial"],
            "missing": "; ".join(ours["missing"]),
            "notes": "; ".join(notes[number - 1] for number in cell["notes"]),
        }
        paper = "harmonic mean of the means" if column["part"] == HARMONIC else "mean"
        compared = {name: cell[name] for name in ("difference", "mark", "seed_noise")}
        yield shared | compared | _csv_estimate(paper, ours["paper"])
        yield shared | _csv_estimate("mean", ours["seeds"])
    if published is not None:
        marks = "; ".join(notes[number - 1] for number in cell["published_notes"])
        more = {"numbers": "published", "std_ddof": published["ddof"], "notes": marks}
        # "views" is the column's.
        yield published | more | {"published_views": published["views"]}


def _csv_estimate(statistic: str, one: dict[str, Any] | None) -> dict[str, Any]:
    if one is None:
        return {"statistic": statistic}
    ddof = None if one["std"] is None else one["ddof"]
    return one | {"statistic": statistic, "value": one["mean"], "std_ddof": ddof}
