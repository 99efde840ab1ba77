"""The table of runs at work: what fits the terminal is shown, what does not is counted."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.text import Text

from experiments.monitor.status import RunStatus
from experiments.monitor.text_columns import GAP, cut, line, size, widths
from results.reading.run_folder import State

_STYLE = {
    State.FINISHED: "green",
    State.FAILED: "red",
    State.STOPPED: "blue",
    State.RUNNING: "cyan",
    State.STALE: "yellow",
    State.PAUSED: "yellow",
    State.PLANNED: "dim",
}
#: What is shown first where not everything fits; other states come between these.
_FIRST, _LAST = (State.RUNNING, State.FAILED, State.STALE), (State.FINISHED, State.PLANNED)
NONE = "–"
#: Hex digits of a run id that may be enough to tell it from others of the same slug.
SHORT_HASHES = (4, 6, 8)


class Column(NamedTuple):
    """A column of the table; the one of the lowest `worth` goes first where the room is short."""

    head: str
    cell: Callable[[RunStatus], str]
    worth: int
    left: bool = False


class Line(NamedTuple):
    """A line of text with a style, of its cells from `start` to before `end`."""

    text: str
    style: str
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Shown:
    """The rows that are shown, in order, and how many of each state are not."""

    rows: Sequence[RunStatus]
    hidden: Counter[State]


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`, `2.1 d`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.1f} d"


def count_states(states: Sequence[State]) -> str:
    """`6 runs: 4 finished, 1 running, 1 failed`; states without a run are left out."""
    counts = Counter(states)
    parts = [f"{counts[state]} {state}" for state in reversed(State) if counts[state]]
    return f"{len(states)} runs: " + ", ".join(parts)


def placed(row: RunStatus) -> str:
    """Workers and device: `4 x A100`, `2 x cpu`."""
    if row.device is None:
        return NONE
    name = re.sub(r"^(NVIDIA |GeForce |Tesla |Quadro )+", "", row.device)
    found = re.match(r"(?:[RG]TX )?\w+", name)
    return f"{row.workers} x {found[0] if found else name}"


def _number(form: str, value: float | None) -> str:
    return NONE if not value else form.format(value)


def _epoch(row: RunStatus) -> str:
    if row.epochs is None:
        return NONE
    return f"{row.epoch or 0}/{row.epochs}"


COLUMNS = (
    Column("state", lambda row: str(row.state), 9, left=True),
    Column("node", lambda row: row.node or NONE, 2, left=True),
    Column("on", placed, 3, left=True),
    Column("epoch", _epoch, 8),
    Column("loss", lambda row: _number("{:.3f}", row.loss), 0),
    Column("val %", lambda row: NONE if row.top1 is None else f"{row.top1:.1f}", 7),
    Column("clips/s", lambda row: _number("{:.1f}", row.clips_per_second), 5),
    Column("left", lambda row: NONE if row.seconds_left is None else duration(row.seconds_left), 6),
    Column("GPU-h", lambda row: _number("{:.1f}", row.gpu_hours), 4),
    Column("attempts", lambda row: _number("{}", row.attempts), 1),
)


def note(row: RunStatus) -> str:
    """What stands under a row: why it failed, since when nothing was heard of it, and such."""
    if row.error:
        return row.error
    if row.state is State.STALE and row.since is not None:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.since))
        return f"no sign of life since {at} ({duration(max(0.0, time.time() - row.since))})"
    if row.state is State.RUNNING and row.step and row.step == row.total_steps:
        return "trained; in its final tests"
    if row.reduced and row.state is State.RUNNING:
        return f"the memory was short: {row.reduced}"
    return ""


def fitting(rows: Sequence[RunStatus], lines: int | None) -> Shown:
    """The rows that fit into so many lines, all without a limit.

    If not all of them do: those at work, the failed and stale ones, then the latest finished.
    """
    if lines is None or sum(_height(row) for row in rows) <= lines:
        return Shown(rows, Counter())
    middle = [state for state in State if state not in (*_FIRST, *_LAST)]
    order = {state: place for place, state in enumerate((*_FIRST, *middle, *_LAST))}
    chosen: list[RunStatus] = []
    for row in sorted(rows, key=lambda row: (order[row.state], -(row.since or 0.0))):
        if _height(row) > lines:
            break
        chosen.append(row)
        lines -= _height(row)
    hidden = Counter(row.state for row in rows)
    hidden.subtract(row.state for row in chosen)
    return Shown(chosen, +hidden)


def _height(row: RunStatus) -> int:
    return 2 if note(row) else 1


def names(rows: Sequence[RunStatus]) -> list[str]:
    """Run ids without the protocol if there is one only, and no more of the hash than is needed."""
    ids = [row.run_id for row in rows]
    if len({row.protocol for row in rows}) == 1:
        ids = [run_id.partition("-")[2] or run_id for run_id in ids]
    parts = [run_id.rpartition("-") for run_id in ids]
    for digits in (0, *SHORT_HASHES):
        short = [f"{head}-{tail[:digits]}".strip("-") for head, _, tail in parts]
        if all(short) and len(set(short)) == len(short):
            return short
    return ids


def status_text(
    rows: Sequence[RunStatus], width: int | None = None, height: int | None = None
) -> Text:
    """`status_lines` with their colours."""
    texts = []
    for one in status_lines(rows, width, height):
        text = Text(one.text)
        text.stylize(one.style, one.start, one.end)
        texts.append(text)
    return Text("\n", no_wrap=True, overflow="crop").join(texts)


def status_lines(
    rows: Sequence[RunStatus], width: int | None = None, height: int | None = None
) -> list[Line]:
    """The table of `rows` in `width` x `height` cells; None is as much as it needs."""
    # Title, head, rule, what is left out (two lines), and the terminal's last line.
    shown = fitting(rows, None if height is None else max(1, height - 6))
    body, dropped = _body(shown.rows, width)
    lines = [Line(_title(rows, width), "bold"), *body]
    if shown.hidden:
        count = ", ".join(f"{number} {state}" for state, number in shown.hidden.items())
        left = f"not shown: {count}; --state chooses, --format md has all"
        lines.append(Line(cut(left, width), "dim"))
    if dropped:
        left = f"no room for: {', '.join(dropped)}; --format md has all"
        lines.append(Line(cut(left, width), "dim"))
    return lines


def _title(rows: Sequence[RunStatus], width: int | None) -> str:
    protocols = {row.protocol for row in rows}
    title = count_states([row.state for row in rows])
    if len(protocols) == 1:
        title = f"{protocols.pop()}, {title}"
    hours = sum(row.gpu_hours or 0.0 for row in rows)
    whole = f"{title}; {hours:,.1f} GPU-hours" if hours else title
    return whole if width is None or size(whole) <= width else cut(title, width)


def _body(rows: Sequence[RunStatus], width: int | None) -> tuple[list[Line], list[str]]:
    """Head, rule and rows as wide as allowed, and the columns there was no room for."""
    if not rows:
        return [], []
    columns = [Column("run", lambda row: row.run_id, 10, left=True), *COLUMNS]
    cells = [
        [name, *(one.cell(row) for one in COLUMNS)]
        for name, row in zip(names(rows), rows, strict=True)
    ]
    sizes = widths([one.head for one in columns], cells)
    # A column without a single entry tells nothing.
    filled = [n for n in range(len(columns)) if any(row[n] != NONE for row in cells)]
    kept = _kept(filled, columns, sizes, width)
    chosen, left = [sizes[n] for n in kept], [columns[n].left for n in kept]
    rule = "─" * min(sum(chosen) + len(GAP) * (len(chosen) - 1), width or 10_000)
    made = [Line(cut(line([columns[n].head for n in kept], chosen, left), width), "bold")]
    made.append(Line(rule, "dim"))
    at = chosen[0] + len(GAP)
    for row, values in zip(rows, cells, strict=True):
        text, style = line([values[n] for n in kept], chosen, left), _STYLE.get(row.state, "")
        made.append(Line(cut(text, width), style, at, at + len(row.state)))
        if note(row):
            made.append(Line(cut(f"  {note(row)}", width), style))
    return made, [columns[n].head for n in filled if n not in kept]


def _kept(
    filled: Sequence[int], columns: Sequence[Column], sizes: Sequence[int], width: int | None
) -> list[int]:
    """The columns there is room for; run and state stay whatever the width."""
    kept = list(filled)
    while width is not None and len(kept) > 2:
        if sum(sizes[n] for n in kept) + len(GAP) * (len(kept) - 1) <= width:
            break
        kept.remove(min(kept, key=lambda n: columns[n].worth))
    return kept
