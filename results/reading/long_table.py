"""The long table: a row a number, its run's key and provenance beside it.

Built column by column, texts as categories: 10,000 runs are close to a million numbers, and as
Python objects those would take gigabytes.
"""

from __future__ import annotations

import json
from array import array
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from results.records import Result

if TYPE_CHECKING:
    import pandas as pd

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
_MAPPINGS = ("packages", "digests", "readers")
#: Numbers that may be absent: pandas' nullable integers.
_OPTIONAL_INTEGERS = ("shots", "base_split")
_INTEGERS = ("classes", "videos", "unreadable")
_TEXTS = tuple(c for c in NUMBER_COLUMNS if c not in (*_INTEGERS, "value"))
_texts = itemgetter(*_TEXTS)
_PLAIN_RUN_COLUMNS = frozenset({
    "protocol_version", "seed", "demo", "best_epoch", "best_value", "last_epoch", "last_value",
    "parameters", "world_size", "micro_batch", "global_batch", "wall_seconds", "gpu_hours",
    "clips_replaced",
    "videos_expected", "videos_missing", "videos_unreadable", "git_dirty",
})  # fmt: skip


class LongTable:
    """Results as columns; a result can be taken back until `frame` is made."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Any]] = {name: [] for name in RUN_COLUMNS}
        self._counts = array("q")
        #: The texts of a number, which many numbers share: kept once, by code.
        self._kinds: dict[tuple[str, ...], int] = {}
        self._codes = array("i")
        self._integers = {name: array("q") for name in _INTEGERS}
        self._values = array("d")
        self._taken_back: set[int] = set()

    def add(self, result: Result, out: str) -> int:
        """Add a result found in the output folder `out`; returns its number in the table."""
        for name, value in _run_values(result, out).items():
            self._runs[name].append(value)
        self._counts.append(len(result.measurements))
        for one in result.measurements:
            fields = one.__dict__
            self._codes.append(self._kinds.setdefault(_texts(fields), len(self._kinds)))
            for name, numbers in self._integers.items():
                numbers.append(fields[name])
            self._values.append(one.value)
        return len(self._counts) - 1

    def take_back(self, number: int) -> None:
        """Leave the result that `add` numbered so out of the table."""
        self._taken_back.add(number)

    def frame(self) -> pd.DataFrame:
        """The table: `RUN_COLUMNS` repeated for each of a run's numbers, then `NUMBER_COLUMNS`."""
        import numpy as np
        import pandas as pd

        runs = np.repeat(np.arange(len(self._counts)), np.asarray(self._counts, np.int64))
        kept = ~np.isin(runs, list(self._taken_back))
        columns: dict[str, Any] = {}
        for name, values in self._runs.items():
            columns[name] = _run_column(name, values).take(runs[kept]).array
        for name in NUMBER_COLUMNS:
            columns[name] = self._number_column(name, kept)
        return pd.DataFrame(columns, copy=False)

    def _number_column(self, name: str, kept: Any) -> Any:
        import numpy as np
        import pandas as pd

        if name in _TEXTS:
            words = [kind[_TEXTS.index(name)] for kind in self._kinds]
            return pd.Categorical(words).take(np.asarray(self._codes, np.int64)[kept])
        if name in self._integers:
            return np.asarray(self._integers[name], np.int64)[kept]
        return np.asarray(self._values, np.float64)[kept]


def _run_column(name: str, values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    if name in _OPTIONAL_INTEGERS:
        return pd.Series(values, dtype="Int64")
    if name in _PLAIN_RUN_COLUMNS:
        return pd.Series(values, dtype=None if values else "object")
    return pd.Series(pd.Categorical(values))


def _run_values(result: Result, out: str) -> dict[str, Any]:
    key, provenance = result.key.__dict__, result.provenance.__dict__
    values = {"run_id": result.run_id, "out": out, "parameters": result.parameters}
    values |= {name: key["dataset" if name == "trained_on" else name] for name in KEY_COLUMNS}
    values["overrides"] = ", ".join(result.key.overrides)
    values |= {name: getattr(result.selection, name) for name in SELECTION_COLUMNS}
    for name in PROVENANCE_COLUMNS:
        value = provenance[name]
        values[name] = json.dumps(value, sort_keys=True) if name in _MAPPINGS else value
    return values
