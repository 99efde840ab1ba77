"""`tcclip predict`: which classes videos show."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.errors import user_errors
from experiments.grid import options as option
from experiments.inference import checkpoint as given
from experiments.inference.classes import Classes, class_names
from tcclip.config import Precision

Videos = Annotated[
    list[str],
    typer.Argument(help="Files, folders, patterns; a folder of images is a video of frames."),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", help='"a clip of {}": {} is the class; several are averaged.'),
]
Top = Annotated[int, typer.Option(min=1, help="Classes that are named.")]
ViewsOption = Annotated[
    str, typer.Option("--views", help="Temporal clips x crops (1 or 3) of a video, e.g. 2x3.")
]
Window = Annotated[
    str | None, typer.Option(help="For a timeline of long videos: 4s, 2m, 64f (frames).")
]
Stride = Annotated[
    str | None, typer.Option(help="From the beginning of a window to that of the next.")
]
Rejected = Annotated[
    list[str] | None,
    typer.Option(
        "--reject", help="What shows none of these: below 0.4, calibrated, or a TEXT for it."
    ),
]
Calibrated = Annotated[
    bool, typer.Option(help="Whether what tcclip calibrate measured is applied.")
]
PrecisionOption = Annotated[
    Precision | None, typer.Option("--precision", help="By default what it was tested in.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where it computes.")]
LoaderWorkers = Annotated[
    int | None, typer.Option(min=1, help="Videos read at once; by default one a CPU, at most 8.")
]
Format = Annotated[Literal["terminal", "json", "csv", "html"], typer.Option(help="How to print.")]
Write = Annotated[Path | None, typer.Option(help="Into this file instead.")]
#: Videos that are read at once where nobody says how many.
MOST_READERS = 8


def predict(
    videos: Videos,
    checkpoint: given.CheckpointOption,
    out: option.Out = None,
    classes: Classes = None,
    prompts: Prompts = None,
    top: Top = 5,
    views: ViewsOption = "1x1",
    window: Window = None,
    stride: Stride = None,
    reject: Rejected = None,
    calibrated: Calibrated = True,
    ensemble: given.Ensemble = None,
    clip_weights: given.ClipWeights = None,
    precision: PrecisionOption = None,
    device: Device = "auto",
    loader_workers: LoaderWorkers = None,
    format: Format = "terminal",
    write: Write = None,
    demo: option.Demo = False,
) -> None:
    """Which classes your videos show, by any checkpoint, in any words."""
    began = time.monotonic()
    from experiments.inference.answers import formats
    from experiments.inference.answers.videos import find_videos

    with user_errors():
        names = class_names(classes)
        sources, notes = find_videos(videos)
        found = given.find(checkpoint, out, demo=demo)
        imported = time.monotonic()
        predictor = found.load(
            classes=names, device=device, ensemble=ensemble, clip_weights=clip_weights,
            precision=precision,
        )  # fmt: skip
        question = predictor.question(
            prompts=prompts or (), top=top, views=views, window=window, stride=stride,
            reject=[_rejected(text) for text in reject or ()], calibrated=calibrated,
        )  # fmt: skip
        loaded = time.monotonic()
        answers = list(predictor.answers(question, sources, readers(loader_workers, len(sources))))
    times = imported - began, loaded - imported, time.monotonic() - loaded
    _show(formats.render(answers, format, f"{checkpoint}"), format, write)
    stills = [one.video for one in answers if one.frames == 1]
    notes += [f"{video} has 1 frame: the same picture for the whole clip" for video in stills]
    if question.calibration is not None:
        notes.append(f"calibrated: {question.calibration}")
    notes.append("import {:.1f} s, model {:.1f} s, videos {:.1f} s".format(*times))
    print("\n".join(notes), file=sys.stderr)
    raise typer.Exit(1 if any(one.error is not None for one in answers) else 0)


def readers(wanted: int | None, videos: int) -> int:
    """How many videos are read at once."""
    from experiments.machine import cpu_count

    return wanted or max(1, min(videos, MOST_READERS, cpu_count()))


def _show(text: str, format: str, write: Path | None) -> None:
    from experiments.store.files import write_text
    from results import printing

    if write is None:
        printing.show(text, format)
    else:
        write_text(write.absolute(), text + "\n")


def _rejected(text: str) -> str | float:
    """A number is a threshold, anything else a text."""
    try:
        return float(text)
    except ValueError:
        return text
