"""`report --check`: whether complete rows are what was published, within a stated tolerance."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from results.report.report import Cell, Report, Row

#: Percentage points a number may differ by where no std was published.
TOLERANCE = 1.0
#: Of the comparison: binary fractions are not exact.
_DECIMALS = 6


def check(reports: Iterable[Report]) -> int:
    """Compare the rows of `reports` that have published numbers with these, on standard error; the
    exit status: 0 if there is a complete row, one with all of our numbers, and none differs.

    Rows that were published of another setting, as their footnotes say, are not compared.
    """
    differing: list[str] = []
    counts: Counter[str] = Counter()
    for report in reports:
        for row in report.rows:
            known = [cell for cell in row.cells if cell.published is not None]
            if row.method is not None and known:
                kind = _kind(known)
                counts[kind] += 1
                differing += _differing(report, row) if kind == "complete" else []
    rows = f"{counts['complete']} complete rows checked against what was published"
    others = [f", {counts[kind]} {kind}" for kind in ("not complete", "not comparable")
              if counts[kind]]  # fmt: skip
    outcome = f"{len(differing)} numbers differ" if differing else "none differs"
    if not counts["complete"]:
        outcome = "so nothing could be checked"
    print(*differing, f"{rows}{''.join(others)}: {outcome}", sep="\n", file=sys.stderr)
    return 0 if counts["complete"] and not differing else 1


def _kind(known: Sequence[Cell]) -> str:
    """Of a row, by its cells with a published number."""
    if any(one.published and one.published.incomparable for one in known):
        return "not comparable"
    if any(one.difference is None or (one.ours and one.ours.partial) for one in known):
        return "not complete"
    return "complete"


def _differing(report: Report, row: Row) -> Iterator[str]:
    for column, cell in zip(report.columns, row.cells, strict=True):
        if cell.difference is None:
            continue
        assert cell.ours and cell.ours.paper and cell.published
        tolerance = TOLERANCE if cell.published.std is None else cell.published.std
        if round(abs(cell.difference) - tolerance, _DECIMALS) > 0:
            yield (
                f"{report.protocol.name}: {row.title}, {row.weights}, {column.title} "
                f"{column.part_title}: {cell.ours.paper.mean:.1f}, published "
                f"{cell.published.value:.1f}: {cell.difference:+.1f} is more than {tolerance:g}"
            )
