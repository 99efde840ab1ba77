"""The long table: a row a number, beside the run it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from results.records import Measurement, Result

#: Types of a measurement's numbers; its other fields are texts, kept as categories.
_NUMBER_TYPES = {
    "classes": np.int64, "videos": np.int64, "unreadable": np.int64, "value": np.float64,
}  # fmt: skip


def long_table(results: Sequence[Result]) -> pd.DataFrame:
    """`run_id`, `trained_on` and `shots` of the run, then the fields of `Measurement`."""
    runs = {
        "run_id": pd.Categorical([result.run_id for result in results]),
        "trained_on": pd.Categorical([result.key.dataset for result in results]),
        "shots": pd.array([result.key.shots for result in results], dtype="Int64"),
    }
    counts = [len(result.measurements) for result in results]
    run_of_row = np.repeat(np.arange(len(results)), np.asarray(counts, np.int64))
    columns: dict[str, Any] = {name: values.take(run_of_row) for name, values in runs.items()}
    for name in Measurement.model_fields:
        values = [getattr(one, name) for result in results for one in result.measurements]
        dtype = _NUMBER_TYPES.get(name)
        columns[name] = pd.Categorical(values) if dtype is None else np.asarray(values, dtype)
    return pd.DataFrame(columns, copy=False)
