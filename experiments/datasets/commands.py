"""`tcclip data`: fetch, list and check. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.errors import UserError
from experiments.grid.options import Annotations, DataRoot, DatasetFile, Datasets, Format

app = typer.Typer(help="Annotation lists and videos.", no_args_is_help=True)


@app.command()
def fetch(
    source: Annotated[
        str | None, typer.Option("--from", help="Folder or URL; the published repository.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("annotations"),
) -> None:
    """Bring the published annotation lists here and verify every file. Resumable."""
    from experiments.datasets import tables

    raise typer.Exit(tables.fetch(source, to.absolute()))


@app.command("list")
def show_list(
    data_root: DataRoot = None,
    annotations: Annotations = None,
    dataset_file: DatasetFile = None,
    format: Format = "terminal",
) -> None:
    """Data sets, their splits and counts, and what of them is on this machine."""
    from experiments.datasets import tables
    from experiments.datasets.paths import DataPaths

    tables.show_list(DataPaths.find(data_root, annotations, dataset_file or ()), format)


@app.command()
def check(
    datasets: Datasets = None,
    protocol: Annotated[
        str | None, typer.Option(help="Check only what this protocol needs.")
    ] = None,
    decode: Annotated[
        str, typer.Option(help="Videos to decode a data set: a number or all.")
    ] = "0",
    workers: Annotated[int, typer.Option(min=1, help="Decoding processes.")] = 2,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    dataset_file: DatasetFile = None,
    format: Format = "terminal",
) -> None:
    """Which videos are missing, unreadable, too short or listed twice. Exit 1 if any is needed."""
    from experiments.datasets import tables
    from experiments.datasets.paths import DataPaths
    from experiments.grid.request import comma_list

    if decode != "all" and not decode.isdecimal():
        raise UserError(f"--decode {decode!r}; allowed: a number or all")
    raise typer.Exit(
        tables.check(
            DataPaths.find(data_root, annotations, dataset_file or ()),
            names=comma_list("--datasets", datasets, str),
            protocol=protocol,
            decode="all" if decode == "all" else int(decode),
            workers=workers,
            format=format,
        )
    )
