"""The worst videos as part of the page: thumbnails, and the command that explains each."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path

from results.plots.worst import Contested, Video, WorstVideos, worst_videos
from results.report.report import Report

#: Listed video -> its file, and frames of it as one JPEG.
Shown = Mapping[str, tuple[Path, bytes]]


def render(report: Report, unread: list[str]) -> list[str]:
    """The parts of the page; none where no scores were kept, or no thumbnails can be asked for."""
    found = worst_videos(report, unread) if report.thumbnails is not None else []
    if not found:
        return []
    about = (
        "Mistakes that the best trained method is surest of, and classes whose videos are closest "
        "to a tie with another one; of several seeds, by all their models. Three frames of each."
    )
    parts = ["<h2>Worst videos</h2>", f'<p class="dim">{about}</p>']
    for number, one in enumerate(found):
        parts.append(_dataset(report, one, opened=number == 0))
    return parts


def _dataset(report: Report, worst: WorstVideos, *, opened: bool) -> str:
    videos = [*worst.mistakes, *(video for one in worst.contested for video in one.videos)]
    names = list(dict.fromkeys(video.name for video in videos))
    shown: Shown = report.thumbnails(worst.dataset, names) if report.thumbnails else {}
    title = f"{worst.title}, {worst.method}, {worst.weights}"
    note = ""
    if len(shown) < len(names):
        note = (
            f'<p class="dim">{len(names) - len(shown)} of {len(names)} videos are not at hand '
            "(TCCLIP_DATA_ROOT, README): their names alone.</p>"
        )
    mistakes = "".join(_card(report, worst, video, shown) for video in worst.mistakes)
    parts = [note, f'<h3>Surest mistakes</h3><div class="cards">{mistakes}</div>']
    if worst.contested:
        parts.append("<h3>Most contested classes</h3>")
        parts += [_contested(report, worst, one, shown) for one in worst.contested]
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def _contested(report: Report, worst: WorstVideos, one: Contested, shown: Shown) -> str:
    cards = "".join(_card(report, worst, video, shown) for video in one.videos)
    return (
        f"<p><b>{escape(one.name)}</b> against <b>{escape(one.rival)}</b>: {one.right} of "
        f"{one.total} right, on average {one.distance:.0%} between the two</p>"
        f'<div class="cards">{cards}</div>'
    )


def _card(report: Report, worst: WorstVideos, video: Video, shown: Shown) -> str:
    picture, path = "", None
    if video.name in shown:
        path, jpeg = shown[video.name]
        data = b64encode(jpeg).decode()
        picture = f'<img alt="frames of {escape(video.name)}" src="data:image/jpeg;base64,{data}">'
    sign = "taken for" if video.of_taken > video.of_true else "nearly taken for"
    said = (
        f"<b>{escape(video.true)}</b> ({video.of_true:.0%}) {sign} "
        f"<b>{escape(video.taken)}</b> ({video.of_taken:.0%})"
    )
    command = escape(_command(report, worst, video, path))
    return (
        f'<div class="card">{picture}<p>{said}<br><code>{escape(video.name)}</code></p>'
        f"<details><summary>explain it</summary><code>{command}</code></details></div>"
    )


def _command(report: Report, worst: WorstVideos, video: Video, path: Path | None) -> str:
    """The command that shows what the model saw."""
    run = video.run
    trained = run.method.origin == "trained"
    parts = ["tcclip", "explain", str(path or video.name)]
    parts += ["--checkpoint", run.run_id, "--out", run.out] if trained else ["--checkpoint", "FILE"]
    if worst.weights == "ensembled":
        parts += ["--ensemble", f"{report.protocol.ensemble_weight:g}"]
    if not any("," in name for name in (video.true, video.taken)):
        parts += ["--classes", f"{video.true},{video.taken}"]
    return shlex.join([*parts, "--write", "explained"])
