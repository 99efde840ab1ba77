"""`tcclip export`: a checkpoint as a folder that works without this package."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.errors import user_errors
from experiments.grid import options as option
from experiments.inference import recorded
from experiments.inference.checkpoint import Checkpoint, ClipWeights, Ensemble, find
from experiments.inference.classes import Classes, class_names
from results.reading.location import location
from tcclip import methods

if TYPE_CHECKING:
    from tcclip.export.card import About


def export(
    checkpoint: Annotated[str, typer.Argument(help="A run of --out, a path or hf://...")],
    to: Annotated[Path, typer.Option(help="A new folder.")],
    out: option.Out = None,
    demo: option.Demo = False,
    format: Annotated[
        Literal["torch_export", "torchscript", "onnx"] | None,
        typer.Option(help="Also as graphs that run without Python's classes."),
    ] = None,
    ensemble: Ensemble = None,
    clip_weights: ClipWeights = None,
    classes: Classes = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the weights, as the Hub calls it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--push", help="Upload to the Hugging Face Hub: OWNER/NAME.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: not public.")] = False,
) -> None:
    """A model as a folder for the Hugging Face Hub, which works without this package."""
    from tcclip.export import folder, graphs, push

    with user_errors():
        folder.check_new(to)
        if private and name is None:
            raise ValueError("--private is of --push OWNER/NAME, which is not given")
        if format is not None:
            graphs.check_format(format)
        if name is not None:
            push.check_push(name)
    found = find(checkpoint, out, demo=demo)
    names = class_names(classes)
    made = found.load(device="cpu", ensemble=ensemble, clip_weights=clip_weights, classes=names)
    with user_errors():
        start, about = _about(found, out, demo, ensemble, licence)
        files = folder.write_folder(
            made.model, to, about, augment=made.augment, precision=made.precision, start=start,
            format=format,
        )  # fmt: skip
        print(f"{to}: {', '.join(files)}", file=sys.stderr)
        print(push.push(to, name, private=private) if name else to)


def _about(
    found: Checkpoint, out: str | None, demo: bool, ensemble: float | None, licence: str | None
) -> tuple[Mapping[str, Any] | None, About]:
    """What the weights started from, if they may be ensembled with these, and what is known."""
    from tcclip.data.annotations import sha256_of
    from tcclip.export.card import About
    from tcclip.model.checkpoints import describe_checkpoint
    from tcclip.predict.loading import checkpoint_file

    with found.local() as path:
        file = checkpoint_file(path)
        content, digest = describe_checkpoint(file), sha256_of(file)
    results = [one] if found.run and (one := found.run.read_result()) else []
    facts, trained = {"Weights file": f"sha256 {digest}"}, found.run is not None
    if not trained:
        place = location(out or (option.DEFAULT_DEMO_OUT if demo else option.DEFAULT_OUT))
        results = recorded.evaluations(place, digest)
    title = methods.shown(content["model"]["name"]).title
    for one in results if trained else ():
        facts = recorded.training(one, ensemble) | facts
        title += f", {one.key.protocol}, {recorded.title(one, one.key.dataset)}"
    start = content["start"]
    about = About(
        title=title,
        facts=facts,
        numbers=[number for one in results for number in recorded.numbers(one, ensemble)],
        start=start and str(start["clip_weights"]),
        # A converted one holds neither, as the published format.
        published=start is None and content["class_names"] is None,
        licence=licence,
    )
    return (start if ensemble is None else None), about
