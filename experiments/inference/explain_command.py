"""`tcclip explain`: what a model saw in a video. Heavy imports stay inside the functions."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from experiments.errors import UserError, user_errors
from experiments.grid import options as option
from experiments.inference.checkpoint import (
    Checkpoint,
    CheckpointOption,
    ClipWeights,
    Ensemble,
    find,
)
from experiments.inference.classes import Classes, class_names
from experiments.store.ledger import Ledger
from tcclip.config import FrameAttention

if TYPE_CHECKING:
    from tcclip.explanation import Explanation


def explain(
    video: Annotated[Path, typer.Argument(help="A video, or a folder of frames.")],
    checkpoint: CheckpointOption,
    write: Annotated[Path, typer.Option("--write", help="A new folder for page and pictures.")],
    classes: Classes = None,
    beside: Annotated[
        list[str] | None,
        typer.Option("--beside", help="Another checkpoint to show beside it; repeatable."),
    ] = None,
    kinds: Annotated[
        bool,
        typer.Option("--kinds", help="Beside it, its runs with other model.frame_attention."),
    ] = False,
    groups: Annotated[
        int, typer.Option(min=0, max=12, help="Context tokens that get a colour: the biggest.")
    ] = 8,
    ensemble: Ensemble = None,
    clip_weights: ClipWeights = None,
    device: option.Device = None,
    out: option.Out = None,
    demo: option.Demo = False,
) -> None:
    """What a model saw in a video: attention, seed patches, context tokens, classes."""
    from experiments.inference.answers.videos import find_videos
    from tcclip.explanation.files import check_folder
    from tcclip.explanation.files import write as write_files

    with user_errors():
        check_folder(write)
    if not video.exists():
        raise UserError(f"no video at {video}")
    sources, notes = find_videos([str(video)])
    if len(sources) != 1:
        raise UserError(f"{video} holds {len(sources)} videos; give one of them")
    print(*notes, sep="\n", end="\n" if notes else "", file=sys.stderr)
    first = find(checkpoint, out, demo=demo)
    others = [find(one, out, demo=demo) for one in beside or ()]
    others += _other_kinds(first) if kinds else []
    given = {"ensemble": ensemble, "clip_weights": clip_weights, "device": device or "auto"}
    names = class_names(classes)
    explained = [_explained(one, sources[0].path, names, given) for one in (first, *others)]
    with user_errors():
        files = write_files(explained[0], write, beside=explained[1:], groups=groups)
    for line in _said(explained[0], files):
        print(line)


def _explained(
    checkpoint: Checkpoint, video: Path, names: Sequence[str] | None, given: Mapping[str, Any]
) -> Explanation:
    import tcclip
    from tcclip.data.decode.reader import UnreadableVideo

    predictor = checkpoint.load(classes=names, **given)
    try:
        return tcclip.explain(video, predictor)
    except UnreadableVideo as error:
        raise UserError(str(error)) from error


def _other_kinds(checkpoint: Checkpoint) -> list[Checkpoint]:
    """Finished runs of the same folder whose settings are the same but for what a frame attends to.

    UserError if there is none.
    """
    if checkpoint.run is None or checkpoint.spec is None:
        raise UserError("--kinds needs a checkpoint of a run, whose like it looks for")
    spec, found = checkpoint.spec, []
    ledger = Ledger(checkpoint.run.path.parent.parent)
    for kind in get_args(FrameAttention):
        model = spec.model.model_copy(update={"frame_attention": kind})
        run = ledger.folder(spec.model_copy(update={"model": model}).run_id)
        if kind != spec.model.frame_attention and run.read_result() is not None:
            found.append(Checkpoint(run.best, run, ledger.spec(run.run_id)))
    if not found:
        raise UserError(
            f"--kinds: {ledger.out} has no finished run that differs from {checkpoint.run.run_id} "
            "in model.frame_attention alone (frame_attention.yaml sweeps them)"
        )
    return found


def _said(explanation: Explanation, files: Sequence[Path]) -> list[str]:
    """What is worth knowing before the page is opened."""
    scores = explanation.scores
    best = scores.best(1)[0]
    lines = [f"says {scores.names[best]} ({scores.probabilities[best]:.1%})"]
    if scores.gains is not None:
        up, down = int(scores.gains.argmax()), int(scores.gains.argmin())
        lines.append(
            f"video-conditional prompting: most gained by {scores.names[up]} "
            f"({100 * scores.gains[up]:+.1f} points), most lost by {scores.names[down]} "
            f"({100 * scores.gains[down]:+.1f})"
        )
    page = next(one for one in files if one.suffix == ".html")
    return [*lines, f"written: {page} and {len(files) - 1} pictures beside it"]
