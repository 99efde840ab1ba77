"""A report as LaTeX with booktabs: a document that compiles, its table marked for pasting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from results.report.report import Report
from results.tables.caption import caption
from results.tables.text_table import OVER_SEEDS, Text, TextTable, count, text_tables

_DOCUMENT = r"""\documentclass{article}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\pagestyle{empty}
\begin{document}
%% ---- paste from here; needs \usepackage{booktabs} and \usepackage{graphicx}
%s
%% ---- to here
\end{document}
"""
#: A tabular wider than the text is scaled down to it, others are left alone.
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"

#: Characters of a row's name that stand in one line.
_LONGEST_NAME = 32

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "–": "--", "≈": r"$\approx$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "\u200b": "{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': "''", "\n": " ",
}  # fmt: skip


def render(report: Report) -> str:
    """A whole document: a float, or one a data set, then what the numbers are."""
    return document([report])


def document(reports: Sequence[Report], lines: Sequence[str] = ()) -> str:
    """The document of several reports; `lines` stand before them."""
    texts = [rf"\noindent {escape(line)}\par" for line in lines]
    return _DOCUMENT % "\n".join([*texts, *(line for one in reports for line in _body(one))])


def _body(report: Report) -> list[str]:
    tables = text_tables(report)
    lines = [] if tables else [r"No finished run.\par"]
    for table in tables:
        lines += _float(report, table, alone=len(tables) == 1)
    return [*lines, *_below(report)]


def _float(report: Report, table: TextTable, *, alone: bool) -> list[str]:
    title = report.protocol.title + ("" if alone else f": {table.headings[0].dataset}")
    return [
        r"\begin{table}[htbp]", r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape(title)}.}}", r"\smallskip", _FIT, *_tabular(table), "}",
        r"\end{table}",
    ]  # fmt: skip


def _tabular(table: TextTable) -> list[str]:
    above, below = [""] * len(table.labels), list(map(escape, table.labels))
    rules = ""
    for heading in table.headings:
        first = len(below) + 1
        rules += rf"\cmidrule(lr){{{first}-{first + 1}}}"
        above.append(rf"\multicolumn{{2}}{{c}}{{{escape(heading.title)}}}")
        below += [escape(heading.paper), OVER_SEEDS]
    alignment = "l" * len(table.labels) + "rr" * len(table.headings)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", _row(above), rules, _row(below)]
    for number, line in enumerate(table.lines):
        if line.first:
            lines.append(r"\addlinespace" if number else r"\midrule")
        lines.append(_row(map(_text, line.texts)))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _text(text: Text) -> str:
    shown = escape(text.text) + (_superscript(*text.notes) if text.notes else "")
    if len(text.text) <= _LONGEST_NAME:
        return shown
    return rf"\parbox[t]{{4.5cm}}{{\raggedright {shown}\strut}}"


def _superscript(*numbers: int) -> str:
    return rf"\textsuperscript{{{','.join(map(str, numbers))}}}"


def _below(report: Report) -> list[str]:
    """What the numbers are, footnotes, and as comments what is missing."""
    texts = [escape(text) for text in caption(report)]
    notes = enumerate(report.notes, start=1)
    texts += [f"{_superscript(number)} {escape(note)}" for number, note in notes]
    comments = [f"% not used as it is: {_ascii(str(one))}" for one in report.unread]
    comments += [f"% not finished: {one.run_id}: {_ascii(str(one))}" for one in report.awaited]
    if report.unread:
        texts.append(f"{count(len(report.unread), 'file')} not used: see the source's comments.")
    if report.awaited:
        texts.append(f"{count(len(report.awaited), 'run')} not finished: see the comments.")
    lines = [rf"{text}\par" for text in texts]
    return [r"{\raggedright\footnotesize\noindent\parindent=0pt", *lines, "}", *comments]


def escape(text: str) -> str:
    """`text` as LaTeX prints it; characters that base LaTeX does not know become `?`."""
    text = text.replace("--", "-\u200b-")  # or it would be a dash
    return "".join(_SPECIAL.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def _ascii(text: str) -> str:
    """One line for a comment."""
    return " ".join(text.split()).encode("ascii", "replace").decode()
