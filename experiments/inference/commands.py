"""The commands of this room, merged into the command line's own."""

from __future__ import annotations

import typer

app = typer.Typer()
