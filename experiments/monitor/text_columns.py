"""Text in columns: quick also for ten thousand rows, and as wide as it needs to be."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

GAP = "  "
ELLIPSIS = "…"


def size(text: str) -> int:
    """Terminal cells of `text`."""
    return len(text) if text.isascii() else cell_len(text)


def widths(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Terminal cells each column needs."""
    if not rows:
        return [size(name) for name in head]
    columns = zip(*rows, strict=True)
    return [max(size(name), *map(size, cells)) for name, cells in zip(head, columns, strict=True)]


def line(cells: Sequence[str], sizes: Sequence[int], left: Sequence[bool]) -> str:
    """One row; `left`: the columns that stand at the left."""
    placed = [
        cell + " " * (room - size(cell)) if at_left else " " * (room - size(cell)) + cell
        for cell, room, at_left in zip(cells, sizes, left, strict=True)
    ]
    return GAP.join(placed).rstrip()


def cut(text: str, width: int | None) -> str:
    """The first line of `text`, within `width` cells where one is given."""
    first = text.splitlines()[0] if text else ""
    if width is None or size(first) <= width:
        return first
    return set_cell_size(first, max(0, width - 1)).rstrip() + ELLIPSIS


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of a table whose first `left` columns stand at the left, with a rule under its head."""
    sizes, at_left = widths(head, rows), [number < left for number in range(len(head))]
    top = line(head, sizes, at_left)
    rule = "─" * (sum(sizes) + len(GAP) * (len(sizes) - 1))
    return [top, rule, *(line(row, sizes, at_left) for row in rows)]
