"""The commands of this room, merged into the command line's own."""

from __future__ import annotations

import typer

from experiments.inference.calibrate_command import calibrate
from experiments.inference.explain_command import explain
from experiments.inference.export_command import export
from experiments.inference.predict_command import predict

app = typer.Typer()
app.command()(predict)
app.command()(calibrate)
app.command()(explain)
app.command()(export)
