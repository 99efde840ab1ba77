"""The `tcclip` command: parse, call one function, print. Heavy imports stay inside commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.datasets.commands import app as data
from experiments.errors import UserError, user_errors
from experiments.grid import options as option
from experiments.grid.options import ExecutionOptions, FilterOptions, GridOptions
from experiments.inference.commands import app as inference
from experiments.monitor.commands import app as status
from experiments.runs.commands import app as runs
from experiments.worker.checkpoint_commands import app as checkpoint
from results import printing

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.datasets.paths import DataPaths
    from experiments.grid.request import RunPlan
    from experiments.scheduler.summary import Summary
    from results.reading.location import Location

app = typer.Typer(
    help="Sweeps of TC-CLIP: protocols x data sets x seeds, trained, tracked and tabulated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(version: option.Version = False) -> None:
    """Options without a command."""


@app.command()
def sweep(
    protocol: option.ProtocolOrFile = "",
    demo: option.Demo = False,
    datasets: option.Datasets = None,
    models: option.Models = None,
    variants: option.Variants = None,
    shots: option.Shots = None,
    splits: option.Splits = None,
    seeds: option.Seeds = None,
    settings: option.Settings = None,
    name: option.Name = None,
    budget: option.Budget = None,
    search: option.Search = None,
    num_samples: option.NumSamples = None,
    only: option.Only = None,
    init_checkpoint: option.InitCheckpoint = None,
    out: option.Out = None,
    data_root: option.DataRoot = None,
    annotations: option.Annotations = None,
    dataset_file: option.DatasetFile = None,
    workers_per_run: option.WorkersPerRun = None,
    micro_batch: option.MicroBatch = None,
    eval_batch: option.EvalBatch = None,
    loader_workers: option.LoaderWorkers = None,
    cache_size: option.CacheSize = None,
    gpus_per_worker: option.GpusPerWorker = None,
    device: option.Device = None,
    executor: option.ExecutorName = "ray",
    address: option.Address = None,
    max_concurrent: option.MaxConcurrent = None,
    time_limit: option.TimeLimit = None,
    retries: option.Retries = 2,
    fail_fast: option.FailFast = False,
    max_unreadable: option.MaxUnreadable = None,
    rerun: option.Rerun = None,
    dry_run: option.DryRun = False,
    format: option.Format = "terminal",
) -> None:
    """Run what is missing of a protocol, a grid file or paper (all), print the table. Resumable."""
    _run(locals())


@app.command()
def evaluate(
    protocol: option.Protocol,
    checkpoint: option.Checkpoint,
    demo: option.Demo = False,
    datasets: option.Datasets = None,
    variants: option.EvaluatedVariants = None,
    shots: option.Shots = None,
    splits: option.Splits = None,
    settings: option.Settings = None,
    name: option.Name = None,
    ensemble: option.Ensemble = True,
    out: option.Out = None,
    data_root: option.DataRoot = None,
    annotations: option.Annotations = None,
    dataset_file: option.DatasetFile = None,
    workers_per_run: option.WorkersPerRun = None,
    eval_batch: option.EvalBatch = None,
    loader_workers: option.LoaderWorkers = None,
    cache_size: option.CacheSize = None,
    gpus_per_worker: option.GpusPerWorker = None,
    device: option.Device = None,
    executor: option.ExecutorName = "ray",
    address: option.Address = None,
    max_concurrent: option.MaxConcurrent = None,
    time_limit: option.TimeLimit = None,
    retries: option.Retries = 2,
    fail_fast: option.FailFast = False,
    max_unreadable: option.MaxUnreadable = None,
    rerun: option.Rerun = None,
    format: option.Format = "terminal",
) -> None:
    """A protocol's final tests of a checkpoint; nothing is trained."""
    given = locals()
    from experiments.grid.request import plan_evaluation

    _run(given, partial(plan_evaluation, checkpoint=checkpoint, ensembled=ensemble))


@app.command()
def doctor(
    out: option.Out = None,
    demo: option.Demo = False,
    data_root: option.DataRoot = None,
    annotations: option.Annotations = None,
    dataset_file: option.DatasetFile = None,
    address: option.Address = None,
    format: option.Format = "terminal",
) -> None:
    """Whether this machine is fit for sweeps: each check is ok, or says what to do."""
    from experiments import doctor as checks

    find_data = partial(_data_paths, data_root, annotations, dataset_file)
    findings = checks.diagnose(find_data, option.output_name(out, demo), address)
    checks.show(findings, format)
    raise typer.Exit(checks.exit_code(findings))


@app.command()
def report(
    protocol: option.ProtocolOrPaper,
    demo: option.Demo = False,
    out: option.Outs = None,
    partial: option.Partial = False,
    checkpoint: option.Epoch = "best",
    weights: option.Weights = "both",
    published: option.PublishedRows = "beside",
    datasets: option.OfDatasets = None,
    models: option.OfModels = None,
    variants: option.OfVariants = None,
    shots: option.OfShots = None,
    splits: option.OfSplits = None,
    seeds: option.OfSeeds = None,
    name: option.OfName = None,
    run: option.OfRun = None,
    check: option.Check = False,
    write: option.Write = None,
    format: option.ReportFormat = "terminal",
) -> None:
    """Mean ± std of the finished runs, beside the published numbers."""
    runs = FilterOptions.of(locals()).runs()
    from experiments.datasets.thumbnails import thumbnails
    from experiments.planning.paper import progress
    from results.report.check import check as check_rows
    from results.tables import formats

    with user_errors():
        made = formats.make(
            (outs := _outs(out, demo)), protocol, runs, published, demo=demo, weights=weights,
            partial=partial, checkpoint=checkpoint,
        )  # fmt: skip
        page = isinstance(made, formats.Page)
        more: Any = {"lines": progress(outs, demo)} if page else {"thumbnails": thumbnails}
        formats.show(made := replace(made, **more), format)
        if write is not None:
            formats.write(made, write)
            print(f"written in every format to {write}", file=sys.stderr)
    if check:
        raise typer.Exit(check_rows(getattr(made, "reports", [made])))


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A model, model:variant, setting or output folder.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    protocol: Annotated[str, typer.Option(help="The protocol both were run in.")],
    demo: option.Demo = False,
    out: option.Outs = None,
    datasets: option.OfDatasets = None,
    models: option.OfModels = None,
    variants: option.OfVariants = None,
    shots: option.OfShots = None,
    splits: option.OfSplits = None,
    seeds: option.OfSeeds = None,
    name: option.OfName = None,
    run: option.OfRun = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot here (png, svg, pdf).")] = None,
    power: option.Power = None,
    format: option.Format = "terminal",
) -> None:
    """Differences of two methods with paired bootstrap intervals over videos, and over seeds."""
    runs = FilterOptions.of(locals()).runs()
    from results.compare import compare as comparison

    with user_errors():
        folders = _outs(out, demo)
        made = comparison.compare(a, b, protocol, outs=folders, demo=demo, runs=runs, power=power)
        printing.show(comparison.render(made, format), format)
        comparison.save_plot(made, plot)


@app.command()
def ui(
    out: option.Out = None,
    demo: option.Demo = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on this machine; by default 5000.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; by default 127.0.0.1.")
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Copy to MLflow what it lacks of the runs, and stop.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="With --sync: delete MLflow's copy first.")
    ] = False,
) -> None:
    """Serve MLflow's UI on the runs, or bring its copy of them up to date with --sync."""
    from experiments.tracking import ui as ui_commands

    if sync or rebuild:
        if port is not None or host is not None:
            raise UserError("--port and --host are the server's, which --sync does not start")
        copied, others = ui_commands.sync(option.output_folder(out, demo), rebuild)
        print(f"{copied} runs are in MLflow" + (f"; {others} have not begun" if others else ""))
        return
    serve = partial(ui_commands.serve_ui, host=host or "127.0.0.1", port=port or 5000)
    raise typer.Exit(serve(option.output_folder(out, demo)))


app.add_typer(inference)
app.add_typer(runs)
app.add_typer(status)
app.add_typer(data, name="data")
app.add_typer(checkpoint, name="checkpoint")
option.refuse_repeated(app)


def _run(given: Mapping[str, Any], make_plan: Callable[..., RunPlan] | None = None) -> None:
    """Compute the runs that a command's arguments ask for, a sweep's unless `make_plan` is another,
    and exit with the outcome. With `dry_run` among them, only show what would be done.
    """
    from rich.console import Console

    from experiments.grid.request import make_execution
    from experiments.monitor.dry_run import dry_run as list_runs
    from experiments.monitor.dry_run import print_plan
    from experiments.planning.chosen import plan_chosen
    from experiments.planning.lists import planned_decodes
    from experiments.planning.paper import cheapest_first
    from experiments.planning.problems import check_plan
    from experiments.scheduler.sweep import check
    from experiments.scheduler.sweep import sweep as compute

    options = ExecutionOptions.of(given)
    data_paths = _data_paths(*(given[one] for one in ("data_root", "annotations", "dataset_file")))
    plan = (make_plan or plan_chosen)(
        GridOptions.of(given), datasets=data_paths.datasets(), given=data_paths.given
    )
    out = option.output_folder(options.out, plan.grid.demo)
    execution = make_execution(options, plan)
    plan = cheapest_first(plan, given.get("budget"), out, execution, data_paths.list_length)
    place = check(plan, options, execution)
    with user_errors():
        elsewhere = place is not None and place.address is not None
        found = check_plan(plan, execution, data_paths, out, options.rerun, elsewhere)
    if given.get("dry_run"):
        if place is not None:
            print(place, file=sys.stderr)
        rows = list_runs(plan.specs, out, execution, data_paths.list_length, options.rerun)
        decodes = planned_decodes(plan.specs, rows, data_paths, execution)
        print_plan(rows, execution, options.format, *decodes, plan.names)
        raise typer.Exit(found.show())
    found.refuse()
    console = Console(stderr=True)
    summary = compute(plan, options, execution, data_paths, out, console, place)
    _conclude(plan, summary, out, options.format, console)


def _conclude(
    plan: RunPlan, summary: Summary, out: Location, format: str, console: Console
) -> None:
    """Print the protocol's table and what is left to do, then exit; no table if interrupted."""
    from experiments.scheduler.summary import shell_command, summary_lines
    from experiments.tracking import ui as ui_commands
    from results.tables import formats

    grid, lines = plan.grid, summary_lines(summary, out, sys.argv[1:])
    style = "red" if summary.exit_code <= 1 else None
    try:
        if summary.exit_code <= 1:
            ask = summary.asks_mlflow
            with ui_commands.keeping_report(out, plan.specs, console, ask) as (keep, links):
                with user_errors():
                    made = formats.make(
                        [str(out)], grid.protocol, demo=grid.demo, links=links,
                        asked_for=[spec.run_id for spec in plan.specs],
                    )  # fmt: skip
                formats.show(made, format)
                if (error := printing.output_error()) is not None:
                    again = shell_command(["report", grid.protocol, *["--demo"] * grid.demo], out)
                    lines.append(f"the table could not be written: {error.strerror}; {again}")
                keep(partial(formats.write, made))
    finally:  # also if the report cannot be made
        for line in lines:
            console.print(line, style=style, highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(summary.exit_code)


def _data_paths(
    data_root: Path | None, annotations: Path | None, dataset_file: list[Path] | None
) -> DataPaths:
    """Where lists and videos are: as given, or from environment and configuration."""
    from experiments.datasets.paths import DataPaths

    return DataPaths.find(data_root, annotations, dataset_file or ())


def _outs(outs: list[str] | None, demo: bool) -> list[str]:
    """The output folders that were given, or else the default one."""
    return [str(option.output_folder(out, demo)) for out in outs or (os.environ.get("TCCLIP_OUT"),)]


def main() -> int:
    """Entry point: errors of use are one message and exit code 2, never a traceback."""
    return printing.run(partial(app, prog_name="tcclip"))


if __name__ == "__main__":
    sys.exit(main())
