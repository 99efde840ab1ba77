"""`tcclip runs` and `tcclip explain-protocol`. Heavy imports stay inside the commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from experiments.errors import UserError, user_errors
from experiments.grid import options as option

app = typer.Typer()
runs = typer.Typer(help="List, show, extend, forget and clean runs.", no_args_is_help=True)
app.add_typer(runs, name="runs")

Run = Annotated[str, typer.Argument(help="A run id, or a pattern that one run matches.")]
AnyRuns = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN]...", help="Run ids or patterns.")
]
State = Annotated[str | None, typer.Option(metavar="LIST", help="Comma list, e.g. running,failed.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


@runs.command("list")
def list_runs(
    run: AnyRuns = None,
    state: State = None,
    out: option.Out = None,
    demo: option.Demo = False,
    format: option.Format = "terminal",
) -> None:
    """Runs with state, accuracy, size and what they start from; all by default."""
    from experiments.runs import listing

    listing.print_list(option.output_folder(out, demo), run or ["*"], state, format)


@runs.command()
def show(
    run: Run,
    out: option.Out = None,
    demo: option.Demo = False,
    format: option.Format = "terminal",
) -> None:
    """A run: its settings, numbers, where it ran, the end of its log, its files."""
    from experiments.runs import listing

    listing.print_run(option.output_folder(out, demo), run, format)


@runs.command()
def extend(
    run: option.Runs,
    epochs: Annotated[int, typer.Option(min=1, help="How many in all.")],
    out: option.Out = None,
    demo: option.Demo = False,
) -> None:
    """Plan new runs that go on where finished ones ended, on the schedule of more epochs."""
    from experiments.runs.extend import extend as extend_runs

    with user_errors():
        extend_runs(option.output_folder(out, demo), run, epochs)


@runs.command()
def forget(
    run: AnyRuns = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete; without RUN, what is in the trash.")
    ] = False,
    yes: Yes = False,
    out: option.Out = None,
    demo: option.Demo = False,
) -> None:
    """Move runs to the trash of their output folder. One that others start from is refused."""
    from experiments.runs import removal

    folder = option.output_folder(out, demo)
    if not run and not purge:
        raise UserError("say which runs to forget, or empty the trash with --purge")
    chosen = removal.to_forget(folder, run) if run else removal.trashed(folder)
    chosen.show("terminal")
    what = "delete them for good" if purge else f"move them to {removal.trash(folder)}"
    if chosen.files and _confirmed(what, yes):
        with user_errors():
            print(removal.forget(chosen, purge=purge) if run else removal.empty_trash(folder))


@runs.command()
def clean(
    run: AnyRuns = None,
    yes: Yes = False,
    out: option.Out = None,
    demo: option.Demo = False,
    format: option.Format = "terminal",
) -> None:
    """Delete optimiser states and old checkpoints of finished runs; they cannot be extended then.

    Numbers, predictions and the selected weights stay. In md and json it only lists, without --yes.
    """
    from experiments.runs import removal

    chosen = removal.to_clean(option.output_folder(out, demo), run or ["*"])
    chosen.show(format)
    if chosen.files and (format == "terminal" or yes) and _confirmed("delete them", yes):
        with user_errors():
            print(removal.clean(chosen), file=sys.stderr)


@app.command("explain-protocol")
def explain_protocol(
    protocol: option.Protocol,
    demo: option.Demo = False,
    format: option.Format = "terminal",
) -> None:
    """What a protocol trains, tests, selects and averages, from its data."""
    from experiments.runs.protocol_text import print_protocol

    with user_errors():
        print_protocol(protocol, demo, format)


def _confirmed(what: str, yes: bool) -> bool:
    """Whether the user wants it. UserError if nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError(f"nothing was done: to {what} without being asked, add --yes")
    return typer.confirm(f"{what[0].upper()}{what[1:]}?")
