"""The `tcclip` command: parse, call one function, print. Heavy imports stay inside commands."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from experiments.datasets.paths import DataPaths
    from experiments.grid.spec import RunSpec
    from results.reading.location import Location

app = typer.Typer(
    help="Sweeps of TC-CLIP: protocols x data sets x seeds, trained, tracked and tabulated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="Annotation lists and videos.", no_args_is_help=True)
checkpoint = typer.Typer(help="Checkpoints, own and published.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(checkpoint, name="checkpoint")

DEFAULT_OUT = "tcclip-out"
DEFAULT_DEMO_OUT = "tcclip-demo"

Protocol = Annotated[
    str, typer.Argument(help="zero_shot, few_shot, base_to_novel or fully_supervised.")
]
Demo = Annotated[bool, typer.Option("--demo", help="On moving shapes with the tiny model.")]
Out = Annotated[
    str | None,
    typer.Option(
        help=f"Output folder, or s3://BUCKET/FOLDER [{DEFAULT_OUT}; {DEFAULT_DEMO_OUT} with "
        "--demo].",
        envvar="TCCLIP_OUT",
    ),
]
Outs = Annotated[
    list[str] | None,
    typer.Option("--out", help="A folder or s3://BUCKET/FOLDER; may be given several times."),
]
DataRoot = Annotated[Path | None, typer.Option(help="Folder with one folder of videos a data set.")]
Annotations = Annotated[Path | None, typer.Option(help="Folder with datasets_splits/ and labels/.")]
OwnData = Annotated[
    list[Path] | None, typer.Option("--dataset-file", help="YAML of a data set of your own.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any setting, e.g. train.lr=1e-5.")
]
Datasets = Annotated[str | None, typer.Option(help="Comma list; all by default.")]
Shots = Annotated[str | None, typer.Option(help="few_shot: from 2,4,8,16.")]
Splits = Annotated[str | None, typer.Option(help="base_to_novel: from 1,2,3.")]
Seeds = Annotated[str | None, typer.Option(help="Comma list of integers.")]
Workers = Annotated[int, typer.Option(min=1, help="GPUs, or CPU processes, a run.")]
MicroBatch = Annotated[int | None, typer.Option(min=1, help="Videos at once on a worker.")]
EvalBatch = Annotated[int | None, typer.Option(min=1, help="Test views at once on a worker.")]
LoaderWorkers = Annotated[int | None, typer.Option(min=0, help="Decoding processes a worker.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ExecutorName = Annotated[str, typer.Option("--executor", help="ray or local (this process).")]
Address = Annotated[str | None, typer.Option(help="An existing Ray cluster.")]
MaxConcurrent = Annotated[int | None, typer.Option(min=1, help="Runs at once, at most.")]
Retries = Annotated[
    int, typer.Option(min=0, help="Further attempts at a run that failed, where they may help.")
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="End with the first run that failed for good.")
]
MaxUnreadable = Annotated[
    float, typer.Option(min=0, max=1, help="Share of videos that may be unreadable.")
]
Format = Annotated[str, typer.Option("--format", help="terminal, md, json; report: also others.")]


@app.command()
def sweep(
    protocol: Annotated[str, typer.Argument(help="A protocol, or a grid file (YAML).")],
    demo: Demo = False,
    datasets: Datasets = None,
    models: Annotated[str | None, typer.Option(help="From tc_clip,vifi_clip,clip.")] = None,
    variants: Annotated[str | None, typer.Option(help="From base,llm,pretrained.")] = None,
    shots: Shots = None,
    splits: Splits = None,
    seeds: Seeds = None,
    settings: Settings = None,
    search: Annotated[
        list[str] | None,
        typer.Option("--search", help="e.g. train.lr=loguniform(1e-7,1e-5); with Ray Tune's ASHA."),
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Trials of a search.")] = 8,
    init_checkpoint: Annotated[
        Path | None, typer.Option(help="What pretrained runs start from, instead of a parent run.")
    ] = None,
    out: Out = None,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    dataset_file: OwnData = None,
    workers_per_run: Workers = 1,
    micro_batch: MicroBatch = None,
    eval_batch: EvalBatch = None,
    loader_workers: LoaderWorkers = None,
    device: Device = "auto",
    executor: ExecutorName = "ray",
    address: Address = None,
    max_concurrent: MaxConcurrent = None,
    retries: Retries = 2,
    fail_fast: FailFast = False,
    max_unreadable: MaxUnreadable = 0.005,
    rerun: Annotated[str | None, typer.Option(help="failed, all, or a run id pattern.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the grid, run nothing.")] = False,
    format: Format = "terminal",
) -> None:
    """Run what is missing of a grid, then print its table. The same command again continues."""
    from experiments.grid import plan
    from experiments.grid.request import (
        check_search,
        comma_list,
        make_execution,
        make_grid,
        split_settings,
    )
    from experiments.monitor import dry_run as dryrun
    from experiments.monitor.table import FORMATS
    from experiments.scheduler import commands

    _one_of("--format", format, FORMATS)
    numbers, how = split_settings(settings or [])
    grid = make_grid(
        protocol,
        demo=demo,
        datasets=comma_list("--datasets", datasets, str),
        models=comma_list("--models", models, str),
        variants=comma_list("--variants", variants, str),
        shots=comma_list("--shots", shots, int),
        splits=comma_list("--splits", splits, int),
        seeds=comma_list("--seeds", seeds, int),
        settings=numbers,
        searches=search or [],
        samples=num_samples,
        checkpoint=init_checkpoint,
    )
    data_paths = _roots(data_root, annotations, dataset_file)
    specs = plan.expand(grid, data_paths.datasets())
    if search:
        check_search(specs)
    for text in plan.left_out(grid):
        print(f"not in the grid: {text}", file=sys.stderr)
    folder = _out(out, demo)
    execution = make_execution(
        how, workers=workers_per_run, micro_batch=micro_batch, eval_batch=eval_batch,
        loader_workers=loader_workers, device=device, max_unreadable=max_unreadable,
    )  # fmt: skip
    commands.check(specs, execution, executor, address=None if dry_run else address)
    if dry_run:
        dryrun.print_plan(dryrun.dry_run(specs, folder, data_paths.list_length, rerun), format)
        return
    _run(
        grid.protocol, specs, demo=demo, out=folder, data_paths=data_paths, execution=execution,
        executor=executor, address=address, max_concurrent=max_concurrent, rerun=rerun,
        retries=retries, fail_fast=fail_fast, files=grid.files, asha=bool(search),
        format=format,
    )  # fmt: skip


@app.command()
def evaluate(
    protocol: Protocol,
    checkpoint: Annotated[
        str, typer.Option(help="Own or published: a path or hf://OWNER/REPO/FILE.")
    ],
    demo: Demo = False,
    datasets: Datasets = None,
    variants: Annotated[str | None, typer.Option(help="base or llm.")] = None,
    shots: Shots = None,
    splits: Splits = None,
    settings: Settings = None,
    ensemble: Annotated[
        bool, typer.Option(help="Also ensembled with CLIP's weights, where the protocol does.")
    ] = True,
    out: Out = None,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    dataset_file: OwnData = None,
    workers_per_run: Workers = 1,
    eval_batch: EvalBatch = None,
    loader_workers: LoaderWorkers = None,
    device: Device = "auto",
    executor: ExecutorName = "ray",
    address: Address = None,
    max_concurrent: MaxConcurrent = None,
    retries: Retries = 2,
    fail_fast: FailFast = False,
    max_unreadable: MaxUnreadable = 0.005,
    rerun: Annotated[str | None, typer.Option(help="failed, all, or a run id pattern.")] = None,
    format: Format = "terminal",
) -> None:
    """A protocol's final tests of a checkpoint; nothing is trained."""
    from experiments.grid.request import (
        comma_list,
        evaluation,
        make_execution,
        make_grid,
        split_settings,
    )
    from experiments.monitor.table import FORMATS
    from experiments.scheduler import commands

    _one_of("--format", format, FORMATS)
    numbers, how = split_settings(settings or [])
    grid = make_grid(
        protocol,
        demo=demo,
        datasets=comma_list("--datasets", datasets, str),
        variants=comma_list("--variants", variants, str),
        shots=comma_list("--shots", shots, int),
        splits=comma_list("--splits", splits, int),
        settings=numbers,
    )
    data_paths = _roots(data_root, annotations, dataset_file)
    asked = evaluation(grid, checkpoint, ensembled=ensemble, datasets=data_paths.datasets())
    if asked.note is not None:
        print(f"not ensembled: {asked.note}", file=sys.stderr)
    execution = make_execution(
        how, workers=workers_per_run, eval_batch=eval_batch, loader_workers=loader_workers,
        device=device, max_unreadable=max_unreadable,
    )  # fmt: skip
    commands.check(asked.specs, execution, executor, address)
    _run(
        grid.protocol, asked.specs, demo=demo, out=_out(out, demo), data_paths=data_paths,
        execution=execution,
        executor=executor, address=address, max_concurrent=max_concurrent, rerun=rerun,
        retries=retries, fail_fast=fail_fast, files=asked.files, asha=False, format=format,
    )  # fmt: skip


@app.command()
def status(
    out: Out = None,
    demo: Demo = False,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw until interrupted.")] = False,
    protocol: Annotated[str | None, typer.Option(help="Runs of this protocol only.")] = None,
    state: Annotated[str | None, typer.Option(help="Comma list, e.g. running,failed.")] = None,
    format: Format = "terminal",
) -> None:
    """What every run is doing, from the files alone."""
    from rich.console import Console

    from experiments.monitor import commands as statuscommands
    from experiments.monitor.status_table import print_statuses
    from experiments.monitor.table import FORMATS

    _one_of("--format", format, FORMATS)
    folder, states = _out(out, demo), statuscommands.states_named(state)
    if watch and format != "terminal":
        raise _usage("--watch redraws a terminal; leave --format out")
    if watch:
        statuscommands.watch_status(folder, Console(), protocol, states)
        return
    print_statuses(statuscommands.status(folder, protocol, states), Console(), format)


@app.command()
def doctor(
    out: Out = None,
    demo: Demo = False,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    dataset_file: OwnData = None,
    address: Address = None,
    format: Format = "terminal",
) -> None:
    """Whether this machine is fit for sweeps: each check is ok, or says what to do."""
    from experiments import doctor as checks
    from experiments.monitor.table import FORMATS
    from experiments.tracking import default_uri

    _one_of("--format", format, FORMATS)
    findings = checks.diagnose(
        lambda: _roots(data_root, annotations, dataset_file),
        _out_name(out, demo), default_uri, address,
    )  # fmt: skip
    checks.show(findings, format)
    raise typer.Exit(checks.exit_code(findings))


@app.command()
def report(
    protocol: Protocol,
    demo: Demo = False,
    out: Outs = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Average incomplete groups too, marked.")
    ] = False,
    checkpoint: Annotated[str, typer.Option(help="Epoch: best, last or both.")] = "best",
    weights: Annotated[str, typer.Option(help="Weights: raw, ensembled or both.")] = "both",
    seeds: Annotated[
        str | None, typer.Option(help="Seeds a complete row needs; those of its runs by default.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Also write every format into this folder.")
    ] = None,
    format: Format = "terminal",
) -> None:
    """Mean ± std of the finished runs, beside the published numbers."""
    from experiments.grid.request import comma_list
    from results.tables.formats import FORMATS

    _one_of("--checkpoint", checkpoint, ("best", "last", "both"))
    _one_of("--weights", weights, ("raw", "ensembled", "both"))
    _one_of("--format", format, FORMATS)
    _print_report(
        protocol,
        _outs(out, demo),
        demo,
        format,
        write=write,
        partial=partial,
        checkpoint=checkpoint,
        weights=weights,
        seeds=comma_list("--seeds", seeds, int),
    )
    if write is not None:
        print(f"written in every format to {write}", file=sys.stderr)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A model, model:variant, setting or output folder.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    protocol: Annotated[str, typer.Option(help="The protocol both were run in.")],
    demo: Demo = False,
    out: Outs = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot here (png, svg, pdf).")] = None,
    format: Format = "terminal",
) -> None:
    """Differences of two methods with paired bootstrap intervals over videos, and over seeds."""
    from experiments.errors import user_errors
    from results.compare.compare import compare as make_comparison
    from results.compare.compare import render, save_plot

    with user_errors():
        made = make_comparison(a, b, protocol, outs=_outs(out, demo), demo=demo)
        print(render(made, format))
        if plot is not None:
            save_plot(made, plot)


@app.command()
def ui(
    out: Out = None,
    demo: Demo = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    sync: Annotated[
        bool, typer.Option("--sync", help="Copy the run folders to MLflow and stop.")
    ] = False,
) -> None:
    """Serve MLflow's UI on the runs, or rebuild its view of them with --sync."""
    from experiments.tracking import ui as ui_commands

    if sync:
        copied, others = ui_commands.sync(_out(out, demo))
        print(f"{copied} runs are in MLflow" + (f"; {others} have not begun" if others else ""))
        return
    raise typer.Exit(ui_commands.serve_ui(_out(out, demo), host=host, port=port))


@data.command("fetch")
def data_fetch(
    source: Annotated[
        str | None, typer.Option("--from", help="Folder or URL; the published repository.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("annotations"),
) -> None:
    """Bring the published annotation lists here and verify every file. Resumable."""
    from experiments.datasets import commands as datacommands

    raise typer.Exit(datacommands.fetch(source, to.absolute()))


@data.command("list")
def data_list(
    data_root: DataRoot = None,
    annotations: Annotations = None,
    dataset_file: OwnData = None,
    format: Format = "terminal",
) -> None:
    """Data sets, their splits and counts, and what of them is on this machine."""
    from experiments.datasets import commands as datacommands
    from experiments.monitor.table import FORMATS

    _one_of("--format", format, FORMATS)
    datacommands.show_list(_roots(data_root, annotations, dataset_file), format)


@data.command("check")
def data_check(
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
    dataset_file: OwnData = None,
    format: Format = "terminal",
) -> None:
    """Which videos are missing, unreadable, too short or listed twice. Exit 1 if any is needed."""
    from experiments.datasets import commands as datacommands
    from experiments.grid.request import comma_list
    from experiments.monitor.table import FORMATS

    _one_of("--format", format, FORMATS)
    if decode != "all" and not decode.isdecimal():
        raise _usage(f"--decode {decode!r}; allowed: a number or all")
    raise typer.Exit(
        datacommands.check(
            _roots(data_root, annotations, dataset_file),
            names=comma_list("--datasets", datasets, str),
            protocol=protocol,
            decode="all" if decode == "all" else int(decode),
            workers=workers,
            format=format,
        )
    )


@checkpoint.command("show")
def checkpoint_show(path: Annotated[str, typer.Argument(help="A path or hf://...")]) -> None:
    """What is in a checkpoint, as JSON; nothing in it is executed."""
    from experiments.errors import user_errors
    from tcclip.model.checkpoints import describe

    with user_errors():
        print(json.dumps(describe(path), indent=1))


@checkpoint.command("convert")
def checkpoint_convert(
    source: Annotated[str, typer.Argument(help="A published checkpoint: a path or hf://...")],
    destination: Annotated[Path, typer.Argument(help="Where to: NAME.safetensors.")],
) -> None:
    """Turn a published checkpoint into our own format."""
    from experiments.errors import user_errors
    from tcclip.model.checkpoints import convert

    with user_errors():
        convert(source, destination)
        print(f"wrote {destination}")


def _run(
    protocol: str,
    specs: Sequence[RunSpec],
    *,
    demo: bool,
    out: Location,
    format: str,
    retries: int,
    fail_fast: bool,
    **options: Any,
) -> None:
    """Compute `specs`, print the protocol's table, say what is left, exit with the outcome."""
    from rich.console import Console

    from experiments.scheduler import commands
    from experiments.scheduler.loop import Policy
    from experiments.scheduler.summary import ending
    from experiments.tracking import ui as ui_commands

    console = Console(stderr=True)
    policy = Policy(retries=retries, fail_fast=fail_fast)
    summary = commands.sweep(specs, out=out, console=console, policy=policy, **options)
    lines = ending(summary, out, sys.argv[1:])
    for line in lines if summary.exit_code > 1 else ():  # who stops a sweep wants no table
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if summary.exit_code > 1:
        raise typer.Exit(summary.exit_code)
    try:
        with ui_commands.keeping_report(out, specs, console) as (folder, links):
            _print_report(protocol, [_source(out)], demo, format, write=folder, links=links)
        if (where := ui_commands.where_to_look(out)) is not None:
            console.print(where, highlight=False, soft_wrap=True, markup=False)
    finally:  # whatever keeps the report from being made
        for line in lines:
            console.print(line, style="red", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(summary.exit_code)


def _print_report(
    protocol: str,
    folders: Sequence[Path | str],
    demo: bool,
    format: str,
    *,
    write: Path | None = None,
    **choices: Any,
) -> None:
    """Write the protocol's report in every format into the folder `write`, and print it."""
    from experiments.errors import user_errors
    from results.report.report import report as make_report
    from results.tables.formats import render
    from results.tables.formats import write as write_all

    with user_errors():
        made = make_report(folders, protocol, demo=demo, **choices)
        if write is not None:
            write_all(made, write)
    terminal = sys.stdout.isatty() and format == "terminal"
    width = shutil.get_terminal_size().columns if terminal else None
    print(render(made, format, width=width, colour=terminal))


def _roots(data_root: Path | None, annotations: Path | None, own: list[Path] | None) -> DataPaths:
    from experiments.datasets.paths import DataPaths

    return DataPaths.find(data_root, annotations, own or ())


def _one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise _usage(f"{option} {value!r}; allowed: {', '.join(allowed)}")


def _usage(message: str) -> Exception:
    from experiments.errors import UserError

    return UserError(message)


def _out(out: str | None, demo: bool) -> Location:
    """The output folder, absolute; in a store, once that has answered."""
    from results.reading.location import location, reached

    return reached(location(_out_name(out, demo)))


def _out_name(out: str | None, demo: bool) -> str:
    if out == "":
        raise _usage("--out '' is empty; give a folder, or leave it out")
    return out or (DEFAULT_DEMO_OUT if demo else DEFAULT_OUT)


def _outs(outs: list[str] | None, demo: bool) -> list[Path | str]:
    """Several output folders as `results` takes them; the default one without any."""
    return [_source(_out(out, demo)) for out in outs or (os.environ.get("TCCLIP_OUT"),)]


def _source(out: Location) -> Path | str:
    return out if isinstance(out, Path) else str(out)


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
