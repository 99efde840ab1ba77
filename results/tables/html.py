"""A report as one self-contained HTML page: tables, curves, classes, confusion, runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from results.plots.curves import learning_curves
from results.plots.scores import SplitScores, split_scores
from results.report.report import Report, pictured
from results.tables.text_grid import Grid, Line, Text, caption, count, grid, panels

#: Pairs of classes listed under a confusion matrix.
MOST_MISTAKES = 12
#: Methods in the curves and class plots: more cannot be told apart, and cost seconds each.
MOST_METHODS = 6
#: Number columns beyond which a table is split by data set.
MAX_COLUMNS = 8

_STYLE = """
:root { color-scheme: light; --line: #d9dde3; --dim: #5c6673; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff;
       margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p, li { max-width: 60rem; }
.status { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-size: .85rem; }
.status.complete { background: #e0f3e6; color: #14532d; }
.status.incomplete { background: #fdf0d5; color: #7a4b00; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; white-space: nowrap; text-align: right; }
th { font-weight: 600; vertical-align: bottom; }
thead tr:first-child th { border-top: 2px solid #1b1f24; }
thead tr:last-child th { border-bottom: 1px solid #1b1f24; color: var(--dim); font-weight: 400; }
thead th.group { text-align: center; }
tbody tr.first td { border-top: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 2px solid #1b1f24; }
td.label, th.label { text-align: left; }
td.label:first-child, th.label:first-child { position: sticky; left: 0; background: #fff; }
td.published, td.chance, .caption, .dim { color: var(--dim); }
td.within { color: #14632f; } td.above { color: #0b5ca8; } td.below { color: #b3261e; }
td.missing, td.partial { color: #8a5300; }
.caption, .notes { font-size: .85rem; }
.problem { color: #b3261e; }
code { font-size: .85em; overflow-wrap: anywhere; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 30rem; max-width: 56rem; height: auto; }
sup { line-height: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
        gap: 1rem; align-items: start; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem;
          margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 40rem) { body { font-size: 15px; } th, td { padding: .25rem .45rem; } }
"""


def render(report: Report) -> str:
    """The page. Plots are drawn here, so this takes seconds where the other formats do not."""
    title = escape(report.protocol.title)
    curves, complaints = _curves(report)
    classes, more = _classes(report)
    methods = {row.method for row in report.rows if row.method is not None}
    if (curves or classes) and len(methods) > MOST_METHODS:
        words = f"Curves and classes: {MOST_METHODS} of {len(methods)} methods, plain ones first."
        curves.insert(0, f'<p class="dim">{words}</p>')
    body = [
        f"<h1>{title}</h1>", _status(report), "<h2>Results</h2>", *_tables(report),
        _caption(report), _notes(report), _problems(report, [*complaints, *more]),
        *_few_shot(report), *curves, *classes, *_runs(report),
    ]  # fmt: skip
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            *(part for part in body if part),
            "</body>\n</html>\n",
        ]
    )


def _status(report: Report) -> str:
    word = "complete" if report.complete else "incomplete"
    words = [count(report.runs, "finished run")]
    words += [f"{len(report.unfinished)} not finished"] if report.unfinished else []
    words += [count(len(report.problems), "file") + " not used"] if report.problems else []
    return f'<p><span class="status {word}">{word}</span> {", ".join(words)}</p>'


def _tables(report: Report) -> list[str]:
    whole = 2 * len(report.columns) <= MAX_COLUMNS
    grids = [grid(report)] if whole else [grid(report, panel) for panel in panels(report)]
    return [_table(one) for one in grids if one.lines] or ["<p>No finished run.</p>"]


def _table(one: Grid) -> str:
    above = '<th class="label"></th>' * len(one.labels)
    below = "".join(f'<th class="label">{escape(label)}</th>' for label in one.labels)
    for heading in one.headings:
        above += f'<th class="group" colspan="2">{escape(heading.title)}</th>'
        below += f"<th>{escape(heading.paper)}</th><th>{escape(heading.seeds)}</th>"
    rows = "\n".join(map(_row, one.lines))
    head = f"<thead><tr>{above}</tr><tr>{below}</tr></thead>"
    return f'<div class="wide"><table>{head}\n<tbody>\n{rows}\n</tbody></table></div>'


def _row(line: Line) -> str:
    cells = "".join(f'<td class="label">{escape(label)}</td>' for label in line.shown_labels)
    cells += "".join(map(_cell, line.texts))
    return f'<tr class="first">{cells}</tr>' if line.first else f"<tr>{cells}</tr>"


def _cell(text: Text) -> str:
    marks = ",".join(f'<a href="#note{note}">{note}</a>' for note in text.notes)
    mark = f"<sup>{marks}</sup>" if marks else ""
    return f'<td class="{text.kind}">{escape(text.text)}{mark}</td>'


def _caption(report: Report) -> str:
    return '<p class="caption">' + "<br>".join(map(escape, caption(report))) + "</p>"


def _notes(report: Report) -> str:
    items = "".join(
        f'<li id="note{number}">{escape(note)}</li>'
        for number, note in enumerate(report.notes, start=1)
    )
    return f'<ol class="notes">{items}</ol>' if items else ""


def _problems(report: Report, complaints: Sequence[str]) -> str:
    items = [f"<code>{escape(str(one))}</code>" for one in report.problems]
    items += [f"<code>{escape(text)}</code>" for text in complaints]
    if not items:
        return ""
    return '<h2>Files not used as they are</h2><ul class="problem">' + _list(items) + "</ul>"


def _list(items: Iterable[str]) -> str:
    return "".join(f"<li>{item}</li>" for item in items)


def _few_shot(report: Report) -> list[str]:
    if report.protocol.axis != "shots" or not report.rows:
        return []
    from results.plots import figures as plots

    return ["<h2>Over shots</h2>", _figure(plots.to_svg(plots.few_shot(report)))]


def _curves(report: Report) -> tuple[list[str], list[str]]:
    curves, complaints = learning_curves(report.collected, pictured(report, MOST_METHODS))
    if not curves:
        return [], complaints
    from results.plots import figures as plots

    parts = ["<h2>Learning curves</h2>"]
    for trained_on in dict.fromkeys(curve.trained_on for curve in curves):
        parts.append(f"<h3>Trained on {escape(trained_on)}</h3>")
        parts.append(_figure(plots.to_svg(plots.learning(curves, trained_on))))
    return parts, complaints


def _classes(report: Report) -> tuple[list[str], list[str]]:
    scores, complaints = split_scores(report, pictured(report, MOST_METHODS))
    parts = ["<h2>Classes</h2>", '<p class="dim">Best epoch, seeds pooled.</p>'] if scores else []
    parts += [_split(one, opened=number == 0) for number, one in enumerate(scores)]
    return parts, complaints


def _split(one: SplitScores, *, opened: bool) -> str:
    from results.plots import figures as plots

    parts = ["<h3>Accuracy by class</h3>", _figure(plots.to_svg(plots.per_class(one.methods)))]
    parts.append("<h3>Confusion</h3>")
    for title, confusion in one.methods.items():
        mistakes = [
            f"{escape(true)} taken for {escape(predicted)}: {videos} of {total}"
            for true, predicted, videos, total in confusion.mistakes(MOST_MISTAKES)
        ]
        figure = _figure(plots.to_svg(plots.confusion(title, confusion)))
        parts.append(f'<div class="pair">{figure}<ol class="notes">{_list(mistakes)}</ol></div>')
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(one.title)}</summary>{''.join(parts)}</details>"


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def _runs(report: Report) -> list[str]:
    heads = ("run", "state", "seed", "best epoch", "hours", "GPU-hours", "device", "commit")
    rows = [_finished(report, row) for row in _run_rows(report)]
    for one in report.unfinished:
        cells = [
            _run_name(report, one.run_id),
            escape(str(one)),
            str(one.key.seed if one.key else ""),
        ]
        rows.append(_cells([*cells, *[""] * (len(heads) - len(cells))]))
    if not rows:
        return []
    head = "".join(f'<th class="label">{head}</th>' for head in heads)
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return ["<h2>Runs</h2>", f'<div class="wide"><table>{table}</table></div>']


_RUN_COLUMNS = (
    "run_id", "seed", "best_epoch", "wall_seconds", "gpu_hours", "device", "git_commit",
)  # fmt: skip


def _run_rows(report: Report) -> list[tuple[object, ...]]:
    runs = report.collected.table.drop_duplicates("run_id")
    rows = zip(*(runs[name].tolist() for name in _RUN_COLUMNS), strict=True)
    return sorted(rows, key=lambda row: str(row[0]))


def _finished(report: Report, row: tuple[object, ...]) -> str:
    run_id, seed, best, seconds, gpu_hours, device, commit = row
    assert isinstance(seconds, float) and isinstance(gpu_hours, float)
    commit = commit[:10] if isinstance(commit, str) else ""
    cells = [_run_name(report, str(run_id)), "finished", str(seed), str(best)]
    cells += [f"{seconds / 3600:.2f}", f"{gpu_hours:.2f}", escape(str(device)), commit]
    return _cells(cells)


def _run_name(report: Report, run_id: str) -> str:
    name = f"<code>{escape(run_id)}</code>"
    link = report.links.get(run_id)
    return f'<a href="{escape(link)}">{name}</a>' if link else name


def _cells(cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f'<td class="label">{cell}</td>' for cell in cells) + "</tr>"
