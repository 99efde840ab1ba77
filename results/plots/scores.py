"""Which kept scores a report's page shows: by evaluated split, a method's models pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.reading.location import location
from results.reading.predictions import Confusion, confusion, read
from results.reading.run_folder import RunFolder
from results.report.report import Report, method_title
from results.statistics.aggregate import METHOD_COLUMNS, Method
from results.statistics.columns import HARMONIC


@dataclass(frozen=True)
class SplitScores:
    """One split of one suite: a confusion a method, over all its seeds (and base splits)."""

    title: str
    methods: Mapping[str, Confusion]


def split_scores(report: Report, shown: Sequence[Method]) -> tuple[list[SplitScores], list[str]]:
    """(scores, complaints) of the best epoch; ensembled weights where the protocol has them.

    Of the methods `shown`, in their order.

    Few-shot: of the models with the most shots. A complaint names a file that is not readable.
    """
    complaints: list[str] = []
    found = []
    for (suite, split, trained_on, shots), title in _splits(report).items():
        methods: dict[str, Confusion] = {}
        for method, runs in _runs(report, shown, trained_on, shots).items():
            one = _pooled(report, method, runs, suite, split, complaints)
            if one is not None:
                methods[method_title(method)] = one
        if methods:
            found.append(SplitScores(title, methods))
    return found, complaints


def _splits(report: Report) -> dict[tuple[str, str, str, int | None], str]:
    """(suite, split, trained on, shots) -> title, of every split the table's numbers come from."""
    most = max((column.shots or 0 for column in report.columns), default=0) or None
    found: dict[tuple[str, str, str, int | None], str] = {}
    suites = {
        (suite.name, trained_on): suite
        for trained_on in dict.fromkeys(column.trained_on for column in report.columns)
        for suite in (report.protocol.point_suite(s, trained_on) for s in report.protocol.suites)
    }
    for column in report.columns:
        if column.part == HARMONIC or column.shots != most:
            continue
        for split in suites[column.suite, column.trained_on].splits:
            words = f"{column.title}, {split}" + (f", K={most}" if most else "")
            found[column.suite, split, column.trained_on, most] = words
    return found


def _runs(
    report: Report, shown: Sequence[Method], trained_on: str, shots: int | None
) -> dict[Method, list[tuple[str, str]]]:
    """Method -> (output folder, run_id) of its models."""
    table = report.collected.table.drop_duplicates("run_id")
    picked = table[table["trained_on"].astype("object") == trained_on]
    if shots is not None:
        picked = picked[picked["shots"] == shots]
    runs: dict[Method, list[tuple[str, str]]] = {method: [] for method in shown}
    names = (*METHOD_COLUMNS, "out", "run_id")
    for row in zip(*(picked[name].tolist() for name in names), strict=True):
        if (method := Method(*row[:5])) in runs:
            runs[method].append((row[5], row[6]))
    return runs


def _pooled(
    report: Report,
    method: Method,
    runs: list[tuple[str, str]],
    suite: str,
    split: str,
    complaints: list[str],
) -> Confusion | None:
    ensembled = report.protocol.ensemble_weight is not None and method.model != "clip"
    several = []
    for out, run_id in runs:
        try:
            one = read(
                RunFolder(location(out) / "runs" / run_id), suite, split,
                weights="ensembled" if ensembled else "raw", checkpoint="best",
            )  # fmt: skip
        except ValueError as error:
            complaints.append(str(error))
            continue
        if one is not None:
            several.append(one)
    return confusion(several) if several else None
