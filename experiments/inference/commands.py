"""The commands of this room, merged into the command line's own."""

from __future__ import annotations

import typer

from experiments.inference.explain_command import explain
from experiments.inference.export_command import export

app = typer.Typer()
app.command()(explain)
app.command()(export)
