"""`tcclip status`. Heavy imports stay inside the command."""

from __future__ import annotations

from typing import Annotated

import typer

from experiments.grid import options as option
from experiments.grid.options import FilterOptions

app = typer.Typer()


@app.command()
def status(
    out: option.Out = None,
    demo: option.Demo = False,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw until interrupted.")] = False,
    protocol: Annotated[str | None, typer.Option(help="Runs of this protocol only.")] = None,
    state: Annotated[str | None, typer.Option(help="Comma list, e.g. running,failed.")] = None,
    datasets: option.OfDatasets = None,
    models: option.OfModels = None,
    variants: option.OfVariants = None,
    shots: option.OfShots = None,
    splits: option.OfSplits = None,
    seeds: option.OfSeeds = None,
    name: option.OfName = None,
    run: option.OfRun = None,
    format: option.Format = "terminal",
) -> None:
    """What every run is doing, from the files alone."""
    runs = FilterOptions.of(locals()).runs()
    from experiments.monitor import display

    display.status(option.output_folder(out, demo), protocol, state, watch, format, runs)
