"""`report --check`: whether complete rows are what was published, within a stated tolerance."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from results.report.report import Cell, Report, Row

#: Percentage points a number may differ by where no std was published.
TOLERANCE = 1.0
#: Of the comparison: binary fractions are not exact.
_DECIMALS = 6


@dataclass(frozen=True)
class Check:
    """Texts of the numbers that differ, and how many rows were and could not be checked.

    `incomparable`: rows that were published of another setting, as their footnotes say.
    """

    differing: tuple[str, ...]
    checked: int
    incomplete: int
    incomparable: int

    @property
    def passed(self) -> bool:
        """Whether there is a complete row and none differs."""
        return self.checked > 0 and not self.differing

    def show(self) -> int:
        """Tell the user on standard error; the exit status."""
        rows = f"{self.checked} complete rows checked against what was published"
        rows += f", {self.incomplete} not complete" if self.incomplete else ""
        rows += f", {self.incomparable} not comparable" if self.incomparable else ""
        outcome = f"{len(self.differing)} numbers differ" if self.differing else "none differs"
        if not self.checked:
            outcome = "so nothing could be checked"
        print(*self.differing, f"{rows}: {outcome}", sep="\n", file=sys.stderr)
        return 0 if self.passed else 1


def check(reports: Iterable[Report]) -> Check:
    """Compare the rows of `reports` that have published numbers to compare with; those with all of
    ours count."""
    differing: list[str] = []
    checked = incomplete = incomparable = 0
    for report in reports:
        for row in report.rows:
            known = [cell for cell in row.cells if cell.published is not None]
            if row.method is None or not known:
                continue
            if any(one.published and one.published.incomparable for one in known):
                incomparable += 1
                continue
            if any(one.difference is None or (one.ours and one.ours.partial) for one in known):
                incomplete += 1
                continue
            checked += 1
            differing += _differing(report, row)
    return Check(tuple(differing), checked, incomplete, incomparable)


def _differing(report: Report, row: Row) -> list[str]:
    texts = []
    for column, cell in zip(report.columns, row.cells, strict=True):
        difference, tolerance = cell.difference, _tolerance(cell)
        if difference is None or round(abs(difference) - tolerance, _DECIMALS) <= 0:
            continue
        assert cell.ours and cell.ours.paper and cell.published
        texts.append(
            f"{report.protocol.name}: {row.title}, {row.weights}, {column.title} "
            f"{column.part_title}: {cell.ours.paper.mean:.1f}, published "
            f"{cell.published.value:.1f}: {difference:+.1f} is more than {tolerance:g}"
        )
    return texts


def _tolerance(cell: Cell) -> float:
    """The published std, else `TOLERANCE`."""
    std = None if cell.published is None else cell.published.std
    return TOLERANCE if std is None else std
