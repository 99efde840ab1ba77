"""The commands of this room, merged into the command line's own."""

from __future__ import annotations

import typer

from experiments.inference.explain_command import explain

app = typer.Typer()
app.command()(explain)
