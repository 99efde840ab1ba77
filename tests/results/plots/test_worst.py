"""The worst videos: which they are, and the part of the page that shows them."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.plots.worst import contested, each_video, surest_mistakes
from results.reading.predictions import Predictions
from results.tables import html as html_tables

Command = Callable[..., tuple[int, str, str]]


def scores(videos: dict[str, tuple[int, list[float]]], unreadable: str = "") -> Predictions:
    """Two views of each video: its label, and the probabilities of run, walk and jump."""
    values = np.array([2 * np.array(values) for _, values in videos.values()], np.float32)
    labels = np.array([label for label, _ in videos.values()])
    readable = np.array([name != unreadable for name in videos])
    return Predictions(tuple(videos), labels, values, readable, ("run", "walk", "jump"))


def test_the_surest_mistakes_and_the_closest_classes() -> None:
    run: Any = object()
    first = each_video(run, scores({
        "a": (0, [0.1, 0.7, 0.2]), "b": (0, [0.8, 0.1, 0.1]), "c": (1, [0.45, 0.47, 0.08]),
        "d": (2, [0.95, 0.0, 0.05]), "e": (1, [1.0, 0.0, 0.0]),
    }, unreadable="e"))  # fmt: skip
    # Another seed's model is surer of the same mistake.
    other = each_video(run, scores({"a": (0, [0.05, 0.9, 0.05]), "c": (1, [0.50, 0.48, 0.02])}))
    videos = pd.concat([first, other])
    surest = [(*one[:3], round(one.of_taken, 2)) for one in surest_mistakes(videos)]
    assert surest == [
        ("d", "jump", "run", 0.95), ("a", "run", "walk", 0.9), ("c", "walk", "run", 0.5)
    ]  # fmt: skip
    closest = contested(videos)
    assert [one.name for one in closest] == ["walk", "run", "jump"]
    walk = closest[0]
    assert (walk.rival, walk.right, walk.total) == ("run", 1, 2)
    assert walk.distance == pytest.approx(0.02) and [one.name for one in walk.videos] == ["c"]


def test_the_page_shows_them_with_the_command_that_explains_each(
    tcclip: Command, recorded: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCCLIP_CACHE", str(cache))
    for figures in ("_curves", "_classes"):  # which take their time
        monkeypatch.setattr(html_tables, figures, lambda *_: [])
    code, page, err = tcclip("report", "zero_shot", "--demo", "--out", recorded, "--format", "html")
    assert code == 0, err
    part = page[page.index("<h2>Worst videos</h2>") : page.index("<h2>Runs</h2>")]
    assert "Surest mistakes" in part and "Most contested classes" in part
    # The recorded runs' videos do not exist.
    assert re.search(r"(\d+) of \1 videos are not at hand", part) and "<img" not in part
    commands = [
        html.unescape(one) for one in re.findall(r"<code>(tcclip explain .*?)</code>", part)
    ]
    assert len(commands) >= 6
    run = commands[0].split("--checkpoint ")[1].split()[0]
    assert (recorded / "runs" / run).is_dir()
    assert f"--out {recorded} --ensemble 0.7 --classes" in commands[0]
