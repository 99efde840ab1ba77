"""Standard output and error as they are found: printing never fails the command that prints.

What cannot be written (a full disk, a reader or terminal that is gone) is dropped, and reported
where the output was what was asked for. Characters that the encoding lacks have substitutes.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from results.errors import UserError

#: Name of the error handler by which streams replace what their encoding lacks.
SUBSTITUTE = "tcclip-substitute"
#: All but the first keep a table's columns in line; `printable` sees to those.
_SUBSTITUTES = {
    "±": "+-", "…": "...", "×": "x", "·": ".", "–": "-", "—": "-", "−": "-", "─": "-", "━": "-",
    "│": "|", "≈": "~", "↑": "^", "↓": "v", "→": ">", "“": '"', "”": '"', "‘": "'", "’": "'",
}  # fmt: skip
_DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_FOOTNOTES = re.compile(f"[{_DIGITS}]+(?:,[{_DIGITS}]+)*")
_PLAIN_DIGITS = str.maketrans(_DIGITS, "0123456789")
#: Between two columns of text.
GAP = "  "
#: Terminals without escape sequences.
_DUMB = ("dumb", "unknown")


def run(command: Callable[[], object]) -> int:
    """Run a command line; its exit status, unless it exits itself.

    A mistake of the user is one message and 2, never a traceback; so is a file that the system
    refuses (its name may be too long for any option), and output that was lost.
    """
    open_streams()
    try:
        command()
    except UserError as error:
        print(f"tcclip: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"tcclip: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except SystemExit as stop:
        if not _written() and not stop.code:
            raise SystemExit(2) from stop
        raise
    return 0 if _written() else 2


def _written() -> bool:
    """Whether all output arrived; if not, why is printed."""
    lost = output_error()
    if lost is not None:
        print(f"tcclip: the output could not be written: {lost.strerror}", file=sys.stderr)
    return lost is None


def open_streams() -> None:
    """Replace standard output and error by streams that never fail; those of a test are kept."""
    # Else the next file that is opened would be what libraries take for standard error.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "").lower() in _DUMB:
        os.environ["TTY_COMPATIBLE"] = "0"  # for rich
        os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed
            descriptor, encoding, by_line = os.open(os.devnull, os.O_WRONLY), "utf-8", False
        elif stream is getattr(sys, f"__{name}__"):
            descriptor, encoding, by_line = stream.fileno(), stream.encoding, stream.line_buffering
        else:
            continue
        raw = io.BufferedWriter(_Stream(descriptor, "w", closefd=False))
        tolerant = io.TextIOWrapper(raw, encoding, SUBSTITUTE, line_buffering=by_line)
        setattr(sys, name, tolerant)


class _Stream(io.FileIO):
    """A file that drops what it cannot write. `failure`: why, the first time."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write `data` or a part of it; returns how many bytes are dealt with."""
        try:
            while (written := super().write(data)) is None:  # not blocking, and full
                select.select([], [self], [])
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes
        return written


def output_error() -> OSError | None:
    """Why some of what was printed did not arrive; told once.

    None if all did, or if its reader closed the pipe: it has seen enough.
    """
    sys.stdout.flush()
    stream = _output()
    if stream is None:
        return None
    error, stream.failure = stream.failure, None
    return None if isinstance(error, BrokenPipeError) else error


def reader_gone() -> bool:
    """Whether standard output is a pipe, or a terminal, that nobody reads any more."""
    stream = _output()
    if stream is None:
        return False
    poll = select.poll()
    poll.register(stream, 0)
    return bool(poll.poll(0))


def _output() -> _Stream | None:
    stream = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return stream if isinstance(stream, _Stream) else None


# ---- Characters that an encoding lacks, and tables laid out in those it has ----


def printable(text: str, encoding: str | None = None) -> str:
    """`text` as it comes out in `encoding`, by default standard output's: to be laid out."""
    encoding = encoding or sys.stdout.encoding or "utf-8"
    if _encodable(text, encoding):
        return text
    # As a whole: Latin-1 has three of the digits.
    text = _FOOTNOTES.sub(lambda found: _footnotes(found[0], encoding), text)
    return text.encode(encoding, SUBSTITUTE).decode(encoding)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Head, rule and rows as lines of text; the first `left` columns are aligned left.

    Not rich's Table: it needs about 2 ms a row, and a sweep may have thousands of runs.
    """
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


def show(text: str, format: str) -> None:
    """Print what was rendered in `format`; JSON keeps its values, in escapes if need be."""
    if format == "json" and not _encodable(text, sys.stdout.encoding or "utf-8"):
        text = "".join(one if one.isascii() else _escape(one) for one in text)
    print(printable(text))


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _footnotes(marks: str, encoding: str) -> str:
    """`¹,²` as `[1,2]`: a plain digit would be one more of the number before it."""
    return marks if _encodable(marks, encoding) else f"[{marks.translate(_PLAIN_DIGITS)}]"


def _escape(character: str) -> str:
    """As JSON writes it; a character beyond 16 bits is a pair."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _substitute(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(one) or _escape(one) for one in lacking), error.end


codecs.register_error(SUBSTITUTE, _substitute)
