"""`tcclip checkpoint`: show and convert. Heavy imports stay inside the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from experiments.errors import user_errors

app = typer.Typer(help="Checkpoints, own and published.", no_args_is_help=True)


@app.command()
def show(path: Annotated[str, typer.Argument(help="A path or hf://...")]) -> None:
    """What is in a checkpoint, as JSON; nothing in it is executed."""
    from tcclip.model.checkpoints import describe

    with user_errors():
        print(json.dumps(describe(path), indent=1))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A published checkpoint: a path or hf://...")],
    destination: Annotated[Path, typer.Argument(help="Where to: NAME.safetensors.")],
) -> None:
    """Turn a published checkpoint into our own format."""
    from tcclip.model.checkpoints import convert as convert_checkpoint

    with user_errors():
        convert_checkpoint(source, destination)
        print(f"wrote {destination}")
