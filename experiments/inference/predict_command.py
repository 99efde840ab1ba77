"""`tcclip predict`: which classes videos show."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.errors import UserError, user_errors
from experiments.grid import options as option
from experiments.inference import checkpoint as given
from experiments.inference.classes import Classes, class_names
from tcclip.config import Precision

Videos = Annotated[
    list[str],
    typer.Argument(
        show_default=False, help="Files, folders, patterns; a folder of images is one video."
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="TEXT", help='"a clip of {}"; several are averaged.'),
]
Top = Annotated[int, typer.Option(min=1, metavar="N", help="Classes that are named.")]
ViewsOption = Annotated[
    str,
    typer.Option("--views", metavar="TxC", help="Temporal clips x crops, 1 or 3."),
]
Window = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="For a timeline: 4s, 2m, 64f (frames)."),
]
Stride = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="From the start of a window to the next's."),
]
Rejected = Annotated[
    list[str] | None,
    typer.Option(
        "--reject", metavar="X|TEXT", help="None of these: below 0.4, calibrated, a text."
    ),
]
Calibrated = Annotated[
    bool,
    typer.Option(metavar="", show_default=False, help="Apply what tcclip calibrate measured."),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option("--precision", metavar="NAME", help="fp32, bf16, fp16; by default as tested."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(metavar="NAME", help="auto, cpu or cuda.")
]
LoaderWorkers = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Videos read at once; one a CPU, at most 8."),
]
Format = Annotated[
    Literal["terminal", "json", "csv", "html"],
    typer.Option(metavar="NAME", help="terminal, json, csv or html."),
]
Write = Annotated[Path | None, typer.Option(metavar="FILE", help="Into this file instead.")]
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
        _check_target(write, videos)
        sources, notes = find_videos(videos)
        found = given.find(checkpoint, out, demo=demo)
        imported = time.monotonic()
        predictor = found.load(
            classes=class_names(classes), device=device, ensemble=ensemble,
            clip_weights=clip_weights, precision=precision,
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


def _check_target(write: Path | None, videos: Sequence[str]) -> None:
    """UserError if `write` is a folder or would replace a video: `--write *.mp4` names one."""
    from experiments.datasets.video_files import VIDEO_SUFFIXES
    from tcclip.data.decode.images.frame_folder import FRAME_SUFFIXES

    if write is None:
        return
    if write.is_dir():
        raise UserError(f"--write {write} is a folder; give a file in it")
    is_video = write.name.lower().endswith((*VIDEO_SUFFIXES, *FRAME_SUFFIXES))
    if is_video or write.resolve() in {Path(one).resolve() for one in videos}:
        raise UserError(
            f"--write {write} would write over a video or an image; name the file of the answers "
            "right after --write, such as answers.csv"
        )


def _show(text: str, format: str, write: Path | None) -> None:
    from experiments.store.files import write_text
    from results import printing

    if write is None:
        printing.show(text, format)
    else:
        # A video's name may be no UTF-8.
        shown = text.encode("utf-8", "backslashreplace").decode()
        write_text(write.absolute(), shown + "\n")


def _rejected(text: str) -> str | float:
    """A number is a threshold, anything else a text."""
    try:
        return float(text)
    except ValueError:
        return text
