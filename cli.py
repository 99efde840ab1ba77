"""The `tcclip` command: parse, call one function, print. Heavy imports stay inside commands."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from experiments.plan import Grid
    from experiments.roots import Roots

app = typer.Typer(
    help="Sweeps of TC-CLIP: protocols x data sets x seeds, trained, tracked and tabulated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

DEFAULT_OUT = "tcclip-out"
DEFAULT_DEMO_OUT = "tcclip-demo"

Protocol = Annotated[str, typer.Argument(help="zero_shot, few_shot, base_to_novel, ...")]
Demo = Annotated[bool, typer.Option("--demo", help="On moving shapes with the tiny model.")]
Out = Annotated[
    Path | None,
    typer.Option(help=f"Output folder [{DEFAULT_OUT}, {DEFAULT_DEMO_OUT} for --demo].",
                 envvar="TCCLIP_OUT"),
]  # fmt: skip
DataRoot = Annotated[Path | None, typer.Option(help="Folder with one folder of videos a data set.")]
Annotations = Annotated[Path | None, typer.Option(help="Folder with datasets_splits/ and labels/.")]
Format = Annotated[str, typer.Option("--format", help="terminal, md, json.")]


@app.command()
def sweep(
    protocol: Protocol,
    demo: Demo = False,
    datasets: Annotated[str | None, typer.Option(help="Comma list; all by default.")] = None,
    models: Annotated[str | None, typer.Option(help="tc_clip, vifi_clip, clip.")] = None,
    variants: Annotated[str, typer.Option(help="base, llm, pretrained.")] = "base",
    shots: Annotated[str | None, typer.Option(help="few_shot: 2,4,8,16.")] = None,
    splits: Annotated[str | None, typer.Option(help="base_to_novel: 1,2,3.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma list of integers.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, e.g. train.lr=1e-5.")
    ] = None,
    out: Out = None,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    workers_per_run: Annotated[int, typer.Option(help="GPUs, or CPU processes, a run.")] = 1,
    micro_batch: Annotated[int | None, typer.Option(help="Videos at once on a worker.")] = None,
    loader_workers: Annotated[int | None, typer.Option(help="Decoding processes a worker.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    executor: Annotated[str, typer.Option(help="ray or local.")] = "ray",
    address: Annotated[str | None, typer.Option(help="An existing Ray cluster.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Runs at once, at most.")] = None,
    max_unreadable: Annotated[float, typer.Option(help="Share of videos that may fail.")] = 0.005,
    rerun: Annotated[str | None, typer.Option(help="failed, all, or a run id pattern.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the grid, run nothing.")] = False,
    format: Format = "terminal",
) -> None:
    """Run what is missing of a grid, then print its table. The same command again continues."""
    from rich.console import Console

    from experiments import commands
    from tcclip.config import Execution

    grid = _grid(protocol, demo, datasets, models, variants, shots, splits, seeds, settings or [])
    folder, console = _out(out, demo), Console(stderr=True)
    _format(format, commands.FORMATS)
    if dry_run:
        rows = commands.dry_run(grid, folder)
        commands.print_statuses(rows, Console(), format)
        raise typer.Exit()
    given = {
        "workers": workers_per_run,
        "micro_batch": micro_batch,
        "loader_workers": loader_workers,
        "device": device,
        "max_unreadable": max_unreadable,
    }
    execution = _validated(Execution, {k: v for k, v in given.items() if v is not None})
    summary = commands.sweep(
        grid,
        out=folder,
        roots=_roots(data_root, annotations),
        execution=execution,
        executor=executor,
        address=address,
        max_concurrent=max_concurrent,
        rerun=rerun,
        console=console,
    )
    for run_id, cause in summary.failed.items():
        log = folder / "runs" / run_id / "run.log"
        console.print(f"failed: {run_id}\n  {cause}\n  log: {log}", style="red", highlight=False)
    files = _print_report(protocol, [folder], demo, format)
    commands.log_report(folder, grid, files, console)
    console.print(f"MLflow: tcclip ui --out {folder}  ->  http://127.0.0.1:5000", highlight=False)
    raise typer.Exit(summary.exit_code)


@app.command()
def status(
    out: Out = None,
    demo: Demo = False,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw until interrupted.")] = False,
    format: Format = "terminal",
) -> None:
    """What every run is doing, from the files alone."""
    from rich.console import Console

    from experiments import commands

    _format(format, commands.FORMATS)
    folder = _out(out, demo)
    if watch:
        commands.watch_status(folder, Console())
    commands.print_statuses(commands.status(folder), Console(), format)


@app.command()
def report(
    protocol: Protocol,
    demo: Demo = False,
    out: Annotated[list[Path] | None, typer.Option(help="May be given several times.")] = None,
    format: Format = "terminal",
) -> None:
    """Mean ± std of the finished runs, beside the published numbers."""
    from results.tables import FORMATS

    folders = [folder.absolute() for folder in out] if out else [_out(None, demo)]
    _print_report(protocol, folders, demo, _format(format, FORMATS))


@app.command()
def ui(
    out: Out = None,
    demo: Demo = False,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    sync: Annotated[
        bool, typer.Option("--sync", help="Copy the run folders to MLflow and stop.")
    ] = False,
) -> None:
    """Serve MLflow's UI on the runs, or rebuild its view of them with --sync."""
    from experiments import commands

    if sync:
        print(f"{commands.sync(_out(out, demo))} runs are in MLflow")
        raise typer.Exit()
    raise typer.Exit(commands.serve_ui(_out(out, demo), host=host, port=port))


def _print_report(protocol: str, folders: list[Path], demo: bool, format: str) -> dict[str, str]:
    """Print the protocol's report; returns it as files (name -> text) to keep."""
    from experiments.errors import UserError
    from results.report import report as make_report
    from results.tables import render

    try:
        made = make_report(folders, protocol, demo=demo)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    terminal = sys.stdout.isatty() and format == "terminal"
    width = shutil.get_terminal_size().columns if terminal else None
    print(render(made, format, width=width, colour=terminal))
    return {f"{protocol}.md": render(made, "md"), f"{protocol}.json": render(made, "json")}


def _roots(data_root: Path | None, annotations: Path | None) -> Roots:
    from experiments.roots import Roots, cache_folder

    return Roots(
        annotations=annotations.absolute() if annotations else None,
        videos=data_root.absolute() if data_root else None,
        cache=cache_folder(),
    )


def _format(name: str, allowed: Sequence[str]) -> str:
    from experiments.errors import UserError

    if name not in allowed:
        raise UserError(f"--format {name!r}; allowed: {', '.join(allowed)}")
    return name


M = TypeVar("M", bound="BaseModel")


def _validated(model: type[M], values: dict[str, Any]) -> M:
    """`model` made of options' values; UserError naming the option that does not fit."""
    from pydantic import ValidationError

    from experiments.errors import UserError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise UserError(f"{option} {first['input']!r}: {first['msg']}") from error


def _grid(
    protocol: str,
    demo: bool,
    datasets: str | None,
    models: str | None,
    variants: str,
    shots: str | None,
    splits: str | None,
    seeds: str | None,
    settings: list[str],
) -> Grid:
    from experiments import overrides
    from experiments.plan import Grid

    return Grid(
        protocol=protocol,
        demo=demo,
        datasets=_list("--datasets", datasets, str),
        models=_list("--models", models, str),
        variants=_list("--variants", variants, str) or ("base",),
        shots=_list("--shots", shots, int),
        splits=_list("--splits", splits, int),
        seeds=_list("--seeds", seeds, int),
        settings=overrides.parse(settings),
    )


T = TypeVar("T")


def _list(option: str, text: str | None, kind: Callable[[str], T]) -> tuple[T, ...] | None:
    """`"a,b"` -> `("a", "b")`; None stays None."""
    from experiments.errors import UserError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        values = tuple(kind(part) for part in parts)
    except ValueError as error:
        raise UserError(f"{option} {text!r}: not a comma list of integers") from error
    if not values:
        raise UserError(f"{option} {text!r} is empty; leave the option out for all")
    return values


def _out(out: Path | None, demo: bool) -> Path:
    return (out or Path(DEFAULT_DEMO_OUT if demo else DEFAULT_OUT)).absolute()


def main() -> Any:
    """Entry point: errors of use are one message and exit code 2, never a traceback."""
    from experiments.errors import UserError

    try:
        return app()
    except UserError as error:
        print(f"tcclip: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
