"""The long table: a row a number, its run's key and provenance beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from results.records import Result

#: `trained_on` is the key's data set; `dataset` that of the measurement.
KEY_COLUMNS = (
    "protocol", "protocol_version", "trained_on", "model", "variant", "shots", "base_split",
    "seed", "demo", "overrides", "origin",
)  # fmt: skip
SELECTION_COLUMNS = ("rule", "best_epoch", "best_value", "last_epoch", "last_value")
PROVENANCE_COLUMNS = (
    "git_commit", "git_dirty", "packages", "python", "platform", "device", "world_size",
    "micro_batch", "global_batch", "precision", "started", "finished", "wall_seconds",
    "gpu_hours", "digests", "readers", "clips_replaced",
    "videos_expected", "videos_missing", "videos_unreadable",
)  # fmt: skip
RUN_COLUMNS = (
    "run_id", "out", *KEY_COLUMNS, *SELECTION_COLUMNS, "parameters", *PROVENANCE_COLUMNS,
)  # fmt: skip
NUMBER_COLUMNS = (
    "suite", "dataset", "split", "classes", "views", "weights", "checkpoint", "metric", "value",
    "videos", "unreadable",
)  # fmt: skip
#: Columns of a run that are mappings, kept as JSON.
_MAPPINGS = ("packages", "digests", "readers")
#: Integers that may be absent: pandas' nullable ones.
_OPTIONAL_INTEGERS = ("shots", "base_split")
#: Columns of a run that are numbers or bools; the others are texts, kept as categories.
_PLAIN_RUN_COLUMNS = frozenset({
    "protocol_version", "seed", "demo", "best_epoch", "best_value", "last_epoch", "last_value",
    "parameters", "world_size", "micro_batch", "global_batch", "wall_seconds", "gpu_hours",
    "clips_replaced",
    "videos_expected", "videos_missing", "videos_unreadable", "git_dirty",
})  # fmt: skip


#: Types of the columns of a number; the others are texts.
_NUMBER_TYPES = {
    "classes": np.int64, "videos": np.int64, "unreadable": np.int64, "value": np.float64,
}  # fmt: skip


def long_table(results: Sequence[tuple[str, Result]]) -> pd.DataFrame:
    """The table of (output folder, result) pairs.

    `RUN_COLUMNS`, repeated for each of a run's numbers, then `NUMBER_COLUMNS`.
    """
    runs = [_run_values(out, result) for out, result in results]
    counts = [len(result.measurements) for _, result in results]
    run_of_row = np.repeat(np.arange(len(runs)), np.asarray(counts, np.int64))
    columns: dict[str, Any] = {}
    for name in RUN_COLUMNS:
        column = _run_column(name, [run[name] for run in runs])
        columns[name] = column.take(run_of_row).array
    for name in NUMBER_COLUMNS:
        values = [getattr(one, name) for _, result in results for one in result.measurements]
        dtype = _NUMBER_TYPES.get(name)
        columns[name] = pd.Categorical(values) if dtype is None else np.asarray(values, dtype)
    return pd.DataFrame(columns, copy=False)


def _run_column(name: str, values: list[Any]) -> pd.Series[Any]:
    if name in _OPTIONAL_INTEGERS:
        return pd.Series(values, dtype="Int64")
    if name in _PLAIN_RUN_COLUMNS:
        return pd.Series(values, dtype=None if values else "object")
    return pd.Series(pd.Categorical(values))


def _run_values(out: str, result: Result) -> dict[str, Any]:
    key, provenance = result.key.__dict__, result.provenance.__dict__
    values = {"run_id": result.run_id, "out": out, "parameters": result.parameters}
    values |= {name: key["dataset" if name == "trained_on" else name] for name in KEY_COLUMNS}
    values["overrides"] = ", ".join(result.key.overrides)
    values |= {name: getattr(result.selection, name) for name in SELECTION_COLUMNS}
    for name in PROVENANCE_COLUMNS:
        value = provenance[name]
        values[name] = json.dumps(value, sort_keys=True) if name in _MAPPINGS else value
    return values
