"""Tables as aligned text, markdown or JSON.

Not rich's Table: it needs about 2 ms a row, and a sweep may have thousands of runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from results.printing import printable

#: Between two columns of text.
GAP = "  "


def print_rows(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], format: str, left: int = 2
) -> None:
    """Print a table as text, markdown or JSON (a list of objects).

    `left`: how many columns, from the first, are aligned left. Text is as wide as it needs to be.
    """
    if format == "json":
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    elif format == "md":
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    else:
        lines = aligned(head, rows, left)
        print("\n".join([title, *lines] if title else lines))


def print_json(rows: Sequence[dict[str, object]]) -> None:
    """A JSON list with one object a line, for programs and for `grep`."""
    lines = ",\n ".join(json.dumps(row) for row in rows)
    print(f"[{lines}]")


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Head, rule and rows as lines of text; the first `left` columns are aligned left."""
    rows = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            set_cell_size(cell, width) if number < left else " " * (width - cell_len(cell)) + cell
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(GAP.join(cells).rstrip())
    lines.insert(1, printable("─") * (sum(widths) + len(GAP) * (len(widths) - 1)))
    return lines
