"""A report as one self-contained HTML page: tables, curves, classes, confusion, runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from results.plots import figures
from results.plots.data import learning_curves, split_scores
from results.reading.predictions import Confusion
from results.report.report import Report
from results.statistics.runs import FinishedRun, Method
from results.tables import worst_videos
from results.tables.caption import caption
from results.tables.text_table import OVER_SEEDS, Line, Text, TextTable, count, text_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Pairs of classes listed under a confusion matrix.
MOST_MISTAKES = 12
#: Methods in the curves and class plots: more cannot be told apart, and cost seconds each.
MOST_METHODS = 6

_STYLE = Path(__file__).with_name("page.css")


def render(report: Report) -> str:
    """The page. Plots are drawn here, so this takes seconds where the other formats do not."""
    title = escape(report.protocol.title)
    methods = _plotted_methods(report)
    unread: list[str] = []
    curves = _curves(report, methods, unread)
    classes = _classes(report, methods, unread)
    worst = worst_videos.render(report, unread)
    note = ""
    if (curves or classes) and len(report.methods) > MOST_METHODS:
        of_all = f"{MOST_METHODS} of {len(report.methods)} methods, plain ones first"
        note = f'<p class="dim">Curves and classes: {of_all}.</p>'
    body = [
        f"<h1>{title}</h1>", _status(report), "<h2>Results</h2>", *_results(report, unread),
        *_few_shot(report), note, *curves, *classes, *worst,
        *_runs(report),
    ]  # fmt: skip
    return _document(title, body)


def page(title: str, lines: Sequence[str], reports: Sequence[Report]) -> str:
    """The tables of several reports below `lines`, without curves, classes and lists of runs."""
    body = [f"<h1>{escape(title)}</h1>", f"<ul>{_list(map(escape, lines))}</ul>"]
    for one in reports:
        parts = [f"<h2>{escape(one.protocol.title)}</h2>", _status(one), *_results(one, [])]
        for part in parts:  # each table has its own footnotes
            body.append(re.sub('(id="|href="#)note', rf"\1{one.protocol.name}-note", part))
    return _document(escape(title), body)


def _results(report: Report, unread: Sequence[str]) -> list[str]:
    """The tables and what stands below them."""
    tables = [_table(table) for table in text_tables(report)] or ["<p>No finished run.</p>"]
    below = '<p class="caption">' + "<br>".join(map(escape, caption(report))) + "</p>"
    return [*tables, below, _notes(report), _problems(report, unread)]


def _document(title: str, body: Sequence[str]) -> str:
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>",
            *(part for part in body if part),
            "</body>\n</html>\n",
        ]
    )


def _plotted_methods(report: Report) -> list[Method]:
    """The methods that plots show, those with plain settings first if there are too many."""
    plain_first = sorted(report.methods, key=lambda method: method.overrides != "")
    return [method for method in report.methods if method in plain_first[:MOST_METHODS]]


def _status(report: Report) -> str:
    word = "complete" if report.complete else "incomplete"
    words = [count(len(report.finished), "finished run")]
    words += [f"{len(report.awaited)} not finished"] if report.awaited else []
    words += [count(len(report.unread), "file") + " not used"] if report.unread else []
    return f'<p><span class="status {word}">{word}</span> {", ".join(words)}</p>'


def _table(table: TextTable) -> str:
    above = '<th class="label"></th>' * len(table.labels)
    below = "".join(f'<th class="label">{escape(label)}</th>' for label in table.labels)
    for heading in table.headings:
        above += f'<th class="group" colspan="2">{escape(heading.title)}</th>'
        below += f"<th>{escape(heading.paper)}</th><th>{OVER_SEEDS}</th>"
    rows = "\n".join(map(_row, table.lines))
    head = f"<thead><tr>{above}</tr><tr>{below}</tr></thead>"
    return f'<div class="wide"><table>{head}\n<tbody>\n{rows}\n</tbody></table></div>'


def _row(line: Line) -> str:
    cells = "".join(map(_cell, line.texts))
    return f'<tr class="first">{cells}</tr>' if line.first else f"<tr>{cells}</tr>"


def _cell(text: Text) -> str:
    marks = ",".join(f'<a href="#note{note}">{note}</a>' for note in text.notes)
    mark = f"<sup>{marks}</sup>" if marks else ""
    return f'<td class="{text.kind}">{escape(text.text)}{mark}</td>'


def _notes(report: Report) -> str:
    items = "".join(
        f'<li id="note{number}">{escape(note)}</li>'
        for number, note in enumerate(report.notes, start=1)
    )
    return f'<ol class="notes">{items}</ol>' if items else ""


def _problems(report: Report, unread: Sequence[str]) -> str:
    texts = [*map(str, report.unread), *unread]
    items = _list(f"<code>{escape(text)}</code>" for text in texts)
    return f'<h2>Files not used as they are</h2><ul class="problem">{items}</ul>' if texts else ""


def _list(items: Iterable[str]) -> str:
    return "".join(f"<li>{item}</li>" for item in items)


def _few_shot(report: Report) -> list[str]:
    if len({column.shots for column in report.columns if column.shots}) < 2 or not report.rows:
        return []
    return ["<h2>Over shots</h2>", _figure(figures.few_shot(report))]


def _curves(report: Report, methods: Sequence[Method], unread: list[str]) -> list[str]:
    curves = learning_curves(report, methods, unread)
    parts = ["<h2>Learning curves</h2>"] if curves else []
    for trained_on in dict.fromkeys(curve.point.trained_on for curve in curves):
        own = [curve for curve in curves if curve.point.trained_on == trained_on]
        parts += [f"<h3>Trained on {escape(trained_on)}</h3>", _figure(figures.learning(own))]
    return parts


def _classes(report: Report, methods: Sequence[Method], unread: list[str]) -> list[str]:
    scores = split_scores(report, methods, unread)
    parts = ["<h2>Classes</h2>", '<p class="dim">Best epoch, seeds pooled.</p>'] if scores else []
    return parts + [_split(*one, opened=number == 0) for number, one in enumerate(scores)]


def _split(title: str, methods: Mapping[str, Confusion], *, opened: bool) -> str:
    parts = ["<h3>Accuracy by class</h3>", _figure(figures.per_class(methods))]
    parts.append("<h3>Confusion</h3>")
    for method, confusion in methods.items():
        mistakes = _list(
            f"{escape(true)} taken for {escape(predicted)}: {videos} of {total}"
            for true, predicted, videos, total in confusion.mistakes(MOST_MISTAKES)
        )
        figure = _figure(figures.confusion(method, confusion))
        parts.append(f'<div class="pair">{figure}<ol class="notes">{mistakes}</ol></div>')
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def _figure(figure: Figure) -> str:
    return f"<figure>{figures.to_svg(figure)}</figure>"


_RUN_TITLES = ("run", "state", "seed", "best epoch", "hours", "GPU-hours", "device", "commit")


def _runs(report: Report) -> list[str]:
    """The list of runs, finished ones first."""
    finished = sorted(report.finished, key=lambda run: run.run_id)
    rows = [_run(report, run.run_id, "finished", *_run_details(run)) for run in finished]
    for one in report.unfinished:
        seed = str(one.key.seed) if one.key else ""
        rows.append(_run(report, one.run_id, str(one), seed, *[""] * (len(_RUN_TITLES) - 3)))
    if not rows:
        return []
    head = "".join(f'<th class="label">{title}</th>' for title in _RUN_TITLES)
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return ["<h2>Runs</h2>", f'<div class="wide"><table>{table}</table></div>']


def _run_details(run: FinishedRun) -> tuple[str, ...]:
    """Seed, best epoch, hours, GPU-hours, device and commit."""
    one = run.result.provenance
    hours = f"{one.wall_seconds / 3600:.2f}", f"{one.gpu_hours:.2f}"
    commit = (one.git_commit or "")[:10]
    return str(run.point.seed), str(run.result.selection.best_epoch), *hours, one.device, commit


def _run(report: Report, run_id: str, *texts: str) -> str:
    name = f"<code>{escape(run_id)}</code>"
    link = report.links.get(run_id)
    cells = [f'<a href="{escape(link)}">{name}</a>' if link else name, *map(escape, texts)]
    return "<tr>" + "".join(f'<td class="label">{cell}</td>' for cell in cells) + "</tr>"
