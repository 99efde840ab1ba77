"""Tables as aligned text, markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from results.printing import aligned


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
