"""The table of runs. Columns and rows that do not fit the terminal are left out and counted."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from experiments.errors import UserError
from experiments.monitor.table import print_json, print_rows
from results.printing import GAP, aligned, printable
from results.reading.run_folder import State
from results.reading.status import RunStatus

#: Colours of the states, in the order in which rows are chosen where not all of them fit.
_STYLES = {
    State.RUNNING: "cyan",
    State.FAILED: "red",
    State.STALE: "yellow",
    State.PAUSED: "yellow",
    State.STOPPED: "blue",
    State.FINISHED: "green",
    State.PLANNED: "dim",
}
NONE = "–"


class Column(NamedTuple):
    """A column of the table. Where the width is short, the lowest `priority` goes first."""

    head: str
    cell: Callable[[RunStatus], str]
    priority: int


def print_statuses(rows: Sequence[RunStatus], console: Console, format: str) -> None:
    """Print `rows` as a table, markdown or JSON; a terminal's table has what fits its width."""
    if format == "json":
        print_json([row.as_json() for row in rows])
    elif format == "md":
        notes = [" ".join(status_note(row).split()).replace("|", "\\|") for row in rows]
        cells = [
            [*(column.cell(row) for column in COLUMNS), note]
            for row, note in zip(rows, notes, strict=True)
        ]
        print_rows("", [*(column.head for column in COLUMNS), "note"], cells, format)
    elif console.is_terminal or sys.stdout.isatty():  # the latter alone: without escapes
        console.print(status_text(rows, console.width))
    else:
        print(status_text(rows).plain)


def status_text(
    rows: Sequence[RunStatus], width: int | None = None, height: int | None = None
) -> Text:
    """The table of `rows` in `width` x `height` terminal cells; None is as much as it needs."""
    # Besides rows: title, head, rule, two lines on what is left out, the terminal's last line.
    shown = rows if height is None else _first_rows(rows, max(1, height - 6))
    lines = [Text(_title(rows, width), "bold")]
    columns_left_out: list[str] = []
    if shown:
        cells = _cells(shown)
        if width is not None:
            room = width - len(GAP) - max(map(cell_len, cells[STATE]))
            cells[RUN] = [_end_of(name, room) for name in cells[RUN]]
        columns = _columns_that_fit(cells, width)
        columns_left_out = [column.head for column in cells if column not in columns]
        lines += _table({column: cells[column] for column in columns}, shown)
    if len(shown) < len(rows):
        hidden = Counter(row.state for row in rows) - Counter(row.state for row in shown)
        counts = ", ".join(f"{number} {state}" for state, number in hidden.items())
        lines.append(Text(f"not shown: {counts}; --state chooses, --format md has all", "dim"))
    if columns_left_out:
        names = ", ".join(columns_left_out)
        lines.append(Text(f"--format md has all; no room for: {names}", "dim"))
    if width is not None:
        for line in lines:
            line.truncate(width, overflow="ellipsis" if printable("…") == "…" else "crop")
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _title(rows: Sequence[RunStatus], width: int | None) -> str:
    """Protocol, counts of states, and GPU-hours if there is room for them."""
    protocols = {row.protocol for row in rows}
    title = count_states([row.state for row in rows])
    if len(protocols) == 1:
        title = f"{protocols.pop()}, {title}"
    hours = sum(row.gpu_hours or 0.0 for row in rows)
    whole = f"{title}; {hours:,.1f} GPU-hours" if hours else title
    return whole if width is None or cell_len(whole) <= width else title


def chosen_states(text: str | None) -> set[str] | None:
    """The states of `--state running,failed`; None if it is not given. UserError for others."""
    if text is None:
        return None
    states = {part.strip() for part in text.split(",") if part.strip()}
    if not set() < states <= set(State):
        raise UserError(f"--state {text!r}; known: {', '.join(State)}")
    return states


def count_states(states: Sequence[State]) -> str:
    """`6 runs: 4 finished, 1 running, 1 failed`; states without a run are left out."""
    counts = Counter(states)
    parts = [f"{counts[state]} {state}" for state in reversed(State) if counts[state]]
    return f"{len(states)} runs: " + ", ".join(parts)


# ---- Rows ----


def _first_rows(rows: Sequence[RunStatus], lines: int) -> Sequence[RunStatus]:
    """The rows that fit: all in their order, or else by state (see `_STYLES`), latest first."""
    heights = {row.run_id: 2 if status_note(row) else 1 for row in rows}
    if sum(heights.values()) <= lines:
        return rows
    order = list(_STYLES)
    chosen: list[RunStatus] = []
    for row in sorted(rows, key=lambda row: (order.index(row.state), -(row.since or 0.0))):
        lines -= heights[row.run_id]
        if lines < 0:
            break
        chosen.append(row)
    return chosen


def _table(cells: Mapping[Column, Sequence[str]], rows: Sequence[RunStatus]) -> Iterable[Text]:
    """Head, rule and rows; a row's note stands in a line below it."""
    head, rule, *lines = aligned(
        [column.head for column in cells],
        list(zip(*cells.values(), strict=True)),
        left=sum(column in COLUMNS[:5] for column in cells),
    )
    yield Text(head, "bold")
    yield Text(rule, "dim")
    for name, row, line in zip(cells[RUN], rows, lines, strict=True):
        text, style = Text(line), _STYLES[row.state]
        start = line.index(row.state, len(printable(name)))
        text.stylize(style, start, start + len(row.state))
        yield text
        if note := status_note(row):
            yield Text(f"  {note.splitlines()[0]}", style)


def status_note(row: RunStatus) -> str:
    """What the columns do not tell: why a run failed, since when nothing was heard of it, ..."""
    if row.error:
        return row.error
    if row.state is State.STALE and row.since is not None:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.since))
        return f"no sign of life since {at} ({duration(max(0.0, time.time() - row.since))})"
    if row.state is State.RUNNING and row.step and row.step == row.total_steps:
        return "trained; in its final tests"
    if row.reduced and row.state is State.RUNNING:
        return f"ran out of memory, continues with {row.reduced}"
    return ""


# ---- Columns ----


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`, `2.1 d`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.1f} d"


def _workers_and_device(row: RunStatus) -> str:
    """`4 x A100`, `2 x cpu`."""
    if row.device is None:
        return NONE
    name = re.sub(r"^(NVIDIA |GeForce |Tesla |Quadro )+", "", row.device)
    model = re.match(r"(?:[RG]TX )?\w+", name)
    return f"{row.workers} x {model[0] if model else name}"


def _number(form: str, value: float | None) -> str:
    return NONE if not value else form.format(value)


def _epoch(row: RunStatus) -> str:
    return NONE if row.epochs is None else f"{row.epoch or 0}/{row.epochs}"


RUN = Column("run", lambda row: row.run_id, 10)
STATE = Column("state", lambda row: str(row.state), 9)
COLUMNS = (
    RUN,
    STATE,
    Column("name", lambda row: row.name or NONE, 6),
    Column("node", lambda row: row.node or NONE, 2),
    Column("on", _workers_and_device, 3),
    Column("epoch", _epoch, 8),
    Column("loss", lambda row: _number("{:.3f}", row.loss), 0),
    Column("val %", lambda row: NONE if row.top1 is None else f"{row.top1:.1f}", 7),
    Column("clips/s", lambda row: _number("{:.1f}", row.clips_per_second), 5),
    Column("waits", lambda row: _number("{:.0%}", row.waited), 2),
    Column("left", lambda row: NONE if row.seconds_left is None else duration(row.seconds_left), 6),
    Column("GPU-h", lambda row: _number("{:.1f}", row.gpu_hours), 4),
    Column("attempts", lambda row: _number("{}", row.attempts), 1),
)


def _cells(rows: Sequence[RunStatus]) -> dict[Column, list[str]]:
    """The cells of each column; one without a single entry is left out."""
    cells = {column: [column.cell(row) for row in rows] for column in COLUMNS}
    cells[RUN] = _short_names(rows)
    return {column: texts for column, texts in cells.items() if set(texts) != {NONE}}


def _short_names(rows: Sequence[RunStatus]) -> list[str]:
    """Run ids without the protocol if all have the same, and no more of the hash than needed."""
    ids = [row.run_id for row in rows]
    if len({row.protocol for row in rows}) == 1:
        ids = [run_id.partition("-")[2] or run_id for run_id in ids]
    parts = [run_id.rpartition("-") for run_id in ids]
    for digits in (0, 4, 6, 8):
        short = [f"{head}-{tail[:digits]}".strip("-") for head, _, tail in parts]
        if all(short) and len(set(short)) == len(short):
            return short
    return ids


def _end_of(name: str, most: int) -> str:
    """A run's name in `most` characters: its end, which says variant and seed."""
    return name if len(name) <= most else printable("…") + name[len(name) - max(most, 2) + 1 :]


def _columns_that_fit(cells: Mapping[Column, Sequence[str]], width: int | None) -> Sequence[Column]:
    """The columns there is room for; run and state are shown whatever the width."""
    widths = {column: max(map(cell_len, [column.head, *texts])) for column, texts in cells.items()}
    while width is not None and len(widths) > 2:
        if sum(widths.values()) + len(GAP) * (len(widths) - 1) <= width:
            break
        del widths[min(widths, key=lambda column: column.priority)]
    return list(widths)
