"""What stands below the table: statistic, axis, n, the std's divisor, epoch, weights, sources."""

from __future__ import annotations

from results.report.report import Report
from results.statistics.columns import HARMONIC, statistic_title
from results.tables.text_table import NOTHING


def caption(report: Report) -> list[str]:
    """The caption's lines."""
    if not report.columns:
        hint = "The published table: --published all." if not report.protocol.demo else ""
        return [*(f"{text}." for text in report.general), *([hint] if hint else [])]
    lines = [
        "Percent of videos; an unreadable video counts as wrong.",
        _paper_statistic(report),
        "Over seeds: mean ± sample std (ddof 1) of the models' means, n seeds. "
        f"{NOTHING}: not there, or the std of a single value.",
    ]
    if any(column.part == HARMONIC for column in report.columns):
        lines.append("HM: harmonic mean of the two means; over seeds: of each seed's own HM.")
    if any(row.method and cell.published for row in report.rows for cell in row.cells):
        lines.append(
            "Difference: ours - published; ≈ within, ↑ above, ↓ below the published std "
            "(no mark: none was published)."
        )
    if any(cell.noise is not None for row in report.rows for cell in row.cells):
        lines.append(
            "Seed noise: another run of ours would be within so many points of our mean in 95 % of "
            "cases (t-interval); a published number, one run, that is within it differs no more "
            "than seeds do."
        )
    general = [f"{text}." for text in report.general]
    return [*lines, *_same_in_all_rows(report), *general, *_sources(report)]


def _paper_statistic(report: Report) -> str:
    title = statistic_title(report.protocol, report.columns[0])
    if title == "single run":
        return "Single run: a model's number; with several seeds the mean of theirs."
    several = "with several seeds mean and std are each averaged over the seeds"
    text = f"{title}: mean ± std (ddof {report.protocol.statistic.ddof}) of one model; {several}."
    return text[0].upper() + text[1:]


def _same_in_all_rows(report: Report) -> list[str]:
    """What the table has no column for, because it is the same in every row."""
    epochs = {row.checkpoint for row in report.rows}
    weights = {row.weights for row in report.rows}
    texts = []
    if len(epochs) == 1:
        rule = f" ({report.protocol.selection.replace('_', ' ')})" if epochs == {"best"} else ""
        texts.append(f"{epochs.pop()} epoch{rule}")
    if len(weights) == 1:
        texts.append(f"{weights.pop()} weights")
    lines = [f"All rows: {', '.join(texts)}."] if texts and report.methods else []
    if report.titles.shared:
        whose = "all our rows" if len(report.methods) > 1 else "our row"
        lines.append(f"Settings of {whose}: {', '.join(report.titles.shared)}.")
    return lines


def _sources(report: Report) -> list[str]:
    """Where the published rows come from, and how they were made."""
    titles: dict[str, list[str]] = {}
    for row in report.rows:
        stated = report.protocol.ensemble_weight and row.weights != "not stated"
        title = f"{row.title} {row.weights}" if stated else row.title
        for one in (cell.published for cell in row.cells if cell.published is not None):
            titles.setdefault(f"{one.source} ({one.setting})", []).append(title)
    texts = [f"{', '.join(dict.fromkeys(rows))}: {source}" for source, rows in titles.items()]
    return [f"Published: {'; '.join(texts)}."] if texts else []
