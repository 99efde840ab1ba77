"""`tcclip data`: fetch, init, list, check and pack. Heavy imports stay inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.errors import UserError
from experiments.grid.options import Annotations, DataRoot, DatasetFile, Datasets, Format

#: How the classes of videos are known to `init`.
FormName = Literal["folders", "mmaction2", "kinetics", "ucf101", "hmdb51", "ssv2"]

app = typer.Typer(help="Annotation lists and videos.", no_args_is_help=True)


@app.command()
def fetch(
    source: Annotated[
        str | None, typer.Option("--from", help="Folder or URL; the published repository.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("annotations"),
) -> None:
    """Bring the published annotation lists here and verify every file. Resumable."""
    from experiments.datasets.fetch import fetch as fetch_files
    from experiments.datasets.tables import progress_bar

    to = to.absolute()
    with progress_bar("annotation files") as progress:
        faults = fetch_files(source, to, progress)
    wrong = [fault for fault in faults if fault.known]
    for fault in faults:
        print(fault if fault.known else f"{fault} (its digest is not known yet)", file=sys.stderr)
    print(f"{to}: {len(wrong)} files missing or changed; use it with --annotations {to}")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the videos, e.g. of class folders.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder for what is written; by default the same.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The data set's name; by default the folder's.")
    ] = None,
    form: Annotated[
        FormName | None, typer.Option("--from", help="How the classes are known; told by --lists.")
    ] = None,
    lists: Annotated[
        list[Path] | None, typer.Option(help="Files or folders of another project's lists.")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="Class names of mmaction2's lists.")] = None,
    shares: Annotated[
        str | None,
        typer.Option(help="Of train, val and test, by default 0.7,0.15,0.15; 0,0,1: test alone."),
    ] = None,
    shots: Annotated[
        str | None, typer.Option(help="Few-shot lists; of 2,4,8,16 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the lists.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Make a data set of your own from a folder of videos: a YAML file, class names and lists."""
    from experiments.datasets.own.init import Request
    from experiments.datasets.own.init import init as write_files
    from experiments.datasets.tables import show_written
    from experiments.errors import user_errors
    from experiments.grid.options import comma_list, integers

    with user_errors():
        written = write_files(
            Request(
                folder, to=to, name=name, form=form, lists=tuple(lists or ()), names=names,
                shares=comma_list("--shares", shares, float),
                shots=integers("--shots", shots), seed=seed, force=force,
            )
        )  # fmt: skip
    show_written(written)


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
    """What is missing, unreadable, leaked or odd in the data. Exit 1 if a run would fail."""
    from experiments.datasets.check.check import check as check_data
    from experiments.datasets.check.check import lists_to_check
    from experiments.datasets.check.record import check_file
    from experiments.datasets.paths import DataPaths
    from experiments.datasets.tables import progress_bar, show_checks
    from experiments.grid.options import comma_list
    from experiments.store.files import write_text

    if decode != "all" and not decode.isdecimal():
        raise UserError(f"--decode {decode!r}; allowed: a number or all")
    paths = DataPaths.find(data_root, annotations, dataset_file or ())
    number = None if decode == "all" else int(decode)
    checks = []
    for data, splits, llm in lists_to_check(
        paths.datasets(), comma_list("--datasets", datasets, str) or paths.given or None, protocol
    ):
        with progress_bar(data.name) as progress:
            checks.append(
                check_data(
                    data, paths, splits=splits, llm=llm, decode=number, workers=workers,
                    progress=progress,
                )
            )  # fmt: skip
    for one in checks:
        write_text(check_file(paths, one.dataset), one.model_dump_json(indent=1))
    show_checks(checks, format)
    raise typer.Exit(0 if all(one.complete for one in checks) else 1)


@app.command()
def pack(
    to: Annotated[Path, typer.Option(help="Folder for packs, a folder in it a data set.")],
    datasets: Datasets = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEG frames.")] = 92,
    short_side: Annotated[
        int, typer.Option(min=16, help="Pixels of the frames' short side.")
    ] = 256,
    frames: Annotated[
        int | None, typer.Option(min=16, help="Frames kept a video, evenly spaced; all by default.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Packing processes; one a CPU by default.")
    ] = None,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    dataset_file: DatasetFile = None,
) -> None:
    """Store a data set's videos as frames that are read many times faster. Resumable."""
    from experiments.datasets.packing import pack_dataset
    from experiments.datasets.paths import DataPaths
    from experiments.datasets.tables import progress_bar, show_pack
    from experiments.grid.options import comma_list
    from protocols.datasets import Pack

    paths = DataPaths.find(data_root, annotations, dataset_file or ())
    names = comma_list("--datasets", datasets, str) or paths.given
    if not names:
        raise UserError("say what to pack with --datasets, or --dataset-file")
    settings = Pack(quality=quality, short_side=short_side, frames=frames)
    for name in names:
        with progress_bar(name) as progress:
            packed = pack_dataset(name, paths, to.absolute(), settings, workers, progress)
        show_pack(packed)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete them all.")] = False,
    format: Format = "terminal",
) -> None:
    """The decoded frames that are kept on this machine: test views, few-shot training videos."""
    from experiments.datasets.paths import DataPaths
    from experiments.datasets.tables import show_cache
    from tcclip.data.cache.store import Store, limit_of

    folder = DataPaths.find().frames
    store = Store(folder, limit_of(folder, None))
    if clear:
        number, size, failed = store.clear()
        print(f"{folder}: {number} files deleted, {size / 1e9:.3g} GB")
        if failed:
            raise UserError(f"{len(failed)} files cannot be deleted, such as {failed[0]}")
        return
    show_cache(store, format)
