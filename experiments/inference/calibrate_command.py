"""`tcclip calibrate`: how far a checkpoint's probabilities can be trusted."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from experiments.errors import user_errors
from experiments.grid import options as option
from experiments.inference import checkpoint as given
from experiments.inference.predict_command import Device, LoaderWorkers, ViewsOption, readers

if TYPE_CHECKING:
    from experiments.inference.answers.lists import KnownVideos
    from tcclip.predict import Prediction, Predictor
    from tcclip.predict.calibration import Calibration

ListFile = Annotated[
    Path | None,
    typer.Option(
        "--list", metavar="FILE", help="Lines `path label`; a run's validation list by default."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--videos", metavar="FOLDER", help="Of the list's videos; its own by default."),
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Class names of the list; the model's by default."),
]
Keep = Annotated[
    float,
    typer.Option(min=0, max=1, metavar="X", help="Share of right answers that pass."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Videos at most, drawn from the list.")
]
Format = Annotated[
    Literal["terminal", "json"], typer.Option(metavar="NAME", help="terminal or json.")
]
#: How many unreadable videos are named.
NAMED = 5


def calibrate(
    checkpoint: given.CheckpointOption,
    out: option.Out = None,
    list_file: ListFile = None,
    videos: Folder = None,
    labels: Labels = None,
    data_root: option.DataRoot = None,
    annotations: option.Annotations = None,
    dataset_file: option.DatasetFile = None,
    views: ViewsOption = "1x1",
    keep: Keep = 0.95,
    limit: Limit = None,
    ensemble: given.Ensemble = None,
    clip_weights: given.ClipWeights = None,
    device: Device = "auto",
    loader_workers: LoaderWorkers = None,
    format: Format = "terminal",
    demo: option.Demo = False,
) -> None:
    """Measure temperature and threshold on a list; `predict` applies what is kept beside it."""
    from experiments.datasets.paths import DataPaths
    from experiments.inference.answers import lists
    from experiments.store.files import write_text
    from results import printing

    with user_errors():
        found = given.find(checkpoint, out, demo=demo)
        spec = lists.checked(found.spec, checkpoint) if list_file is None else None
        predictor = found.load(device=device, ensemble=ensemble, clip_weights=clip_weights)
        if list_file is not None:
            known = lists.of_file(list_file, videos, labels, predictor.class_names)
        elif spec is not None:
            paths = DataPaths.find(data_root, annotations, dataset_file or ())
            known = lists.of_run(spec, paths)
        known = known.drawn(limit)
        measured = _measure(
            predictor, known, views, keep, readers(loader_workers, len(known.items))
        )
        where = found.calibration_file()
        write_text(where, json.dumps(asdict(measured), indent=1) + "\n")
    text = json.dumps(asdict(measured), indent=1) if format == "json" else _terminal(measured)
    printing.show(text, format)
    print(f"written to {where}", file=sys.stderr)


def _measure(
    predictor: Predictor, known: KnownVideos, views: str, keep: float, workers: int
) -> Calibration:
    import numpy as np

    from tcclip.predict import Source
    from tcclip.predict.calibration import calibrate as measure

    question = predictor.question(classes=known.names, views=views, calibrated=False)
    sources = [Source(known.locate(item.path), item.path) for item in known.items]
    answers = list(predictor.answers(question, sources, workers))
    _report_unreadable(answers)
    pairs = zip(answers, known.items, strict=True)
    rows = [(one.scores, item.label) for one, item in pairs if one.scores is not None]
    if not rows:
        raise ValueError(f"{known.title}: none of its {len(answers)} videos can be read")
    scores, labels = zip(*rows, strict=True)
    return measure(
        np.stack(scores) / (question.views.clips * question.views.crops), np.array(labels),
        keep=keep, data=known.title, views=question.views.label, ensemble=predictor.ensemble,
    )  # fmt: skip


def _report_unreadable(answers: list[Prediction]) -> None:
    broken = [f"{one.video} ({one.error})" for one in answers if one.error is not None]
    if broken:
        named = "; ".join(broken[:NAMED])
        print(f"{len(broken)} of {len(answers)} videos left out: {named}", file=sys.stderr)


def _terminal(one: Calibration) -> str:
    return "\n".join(
        [
            f"{one.videos} videos of {one.data}, views {one.views}: top-1 {one.top1:.1f} %",
            f"temperature {one.temperature:.3g}",
            f"expected calibration error   {one.ece_before:.3f} before, {one.ece_after:.3f} after",
            f"negative log likelihood      {one.nll_before:.3f} before, {one.nll_after:.3f} after",
            f"threshold {one.threshold:.3f}: passed by {100 * one.kept:.0f} % of the right answers "
            f"and {100 * one.kept_wrong:.0f} % of the wrong ones (--reject calibrated)",
        ]
    )
