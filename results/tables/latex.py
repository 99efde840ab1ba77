"""A report as LaTeX with booktabs: a document that compiles, its table marked for pasting."""

from __future__ import annotations

from results.report.report import Report
from results.tables.text_grid import Grid, Line, Text, caption, count, grid, panels

#: Number columns beyond which the table is split by data set.
MAX_COLUMNS = 8
PACKAGES = ("booktabs", "graphicx")

_DOCUMENT = r"""\documentclass{article}
\usepackage[a4paper,margin=2cm]{geometry}
%s
\pagestyle{empty}
\begin{document}
%% ---- paste from here; needs \usepackage{booktabs} and \usepackage{graphicx}
%s%% ---- to here
\end{document}
"""
#: A tabular wider than the text is scaled down to it, others are left alone.
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "–": "--", "≈": r"$\approx$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': "''", "\n": " ",
}  # fmt: skip


def render(report: Report) -> str:
    """A whole document around `table`."""
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    return _DOCUMENT % (packages, table(report))


def table(report: Report) -> str:
    """The table floats alone, for a paper's own document: one, or one a data set."""
    grids = _grids(report)
    floats = [_float(report, grid, alone=len(grids) == 1) for grid in grids]
    text = [line for lines in floats for line in lines] or [r"No finished run.\par"]
    return "\n".join([*text, *_small_print(report)]) + "\n"


def _float(report: Report, one: Grid, *, alone: bool) -> list[str]:
    title = report.protocol.title + ("" if alone else f": {one.headings[0].dataset}")
    return [
        r"\begin{table}[htbp]", r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape(title)}.}}", r"\smallskip", _FIT, *_tabular(one), "}",
        r"\end{table}",
    ]  # fmt: skip


def _grids(report: Report) -> list[Grid]:
    if 2 * len(report.columns) <= MAX_COLUMNS:
        parts = [grid(report)]
    else:
        parts = [grid(report, panel) for panel in panels(report)]
    return [one for one in parts if one.lines]


def _tabular(one: Grid) -> list[str]:
    labels, headings = len(one.labels), one.headings
    above = ["" for _ in one.labels]
    rules = []
    for number, heading in enumerate(headings):
        above.append(rf"\multicolumn{{2}}{{c}}{{{escape(heading.title)}}}")
        first = labels + 2 * number + 1
        rules.append(rf"\cmidrule(lr){{{first}-{first + 1}}}")
    below = list(map(escape, one.labels))
    for heading in headings:
        below += [escape(heading.paper), escape(heading.seeds)]
    lines = [rf"\begin{{tabular}}{{{'l' * labels}{'rr' * len(headings)}}}", r"\toprule"]
    lines += [" & ".join(above) + r" \\", "".join(rules), " & ".join(below) + r" \\"]
    for number, line in enumerate(one.lines):
        if line.first:
            lines.append(r"\addlinespace" if number else r"\midrule")
        lines.append(_row(line))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _row(line: Line) -> str:
    cells = [*map(escape, line.shown_labels), *map(_text, line.texts)]
    return " & ".join(cells) + r" \\"


def _text(text: Text) -> str:
    marks = ",".join(map(str, text.notes))
    return escape(text.text) + (rf"\textsuperscript{{{marks}}}" if marks else "")


def _small_print(report: Report) -> list[str]:
    """What the numbers are, footnotes, and as comments what is missing."""
    texts = list(map(escape, caption(report)))
    texts += [
        rf"\textsuperscript{{{number}}} {escape(note)}"
        for number, note in enumerate(report.notes, start=1)
    ]
    comments = [f"% not used as it is: {_ascii(str(one))}" for one in report.problems]
    comments += [f"% not finished: {one.run_id}: {_ascii(str(one))}" for one in report.unfinished]
    if report.problems:
        texts.append(f"{count(len(report.problems), 'file')} not used: see the source's comments.")
    if report.unfinished:
        texts.append(f"{count(len(report.unfinished), 'run')} not finished: see the comments.")
    lines = [rf"{text}\par" for text in texts]
    return [r"{\raggedright\footnotesize\noindent\parindent=0pt", *lines, "}", *comments]


def escape(text: str) -> str:
    """`text` as LaTeX prints it; characters that base LaTeX does not know become `?`."""
    return "".join(_SPECIAL.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def _ascii(text: str) -> str:
    """One line for a comment."""
    return " ".join(text.split()).encode("ascii", "replace").decode()
