"""The options that several commands share, and the groups that `sweep` and `evaluate` take.

Only Typer is imported here: `tcclip --help` reads this file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

import typer
from typer.core import TyperCommand

from experiments.errors import UserError

if TYPE_CHECKING:
    from results.reading.location import Location
    from results.reading.run_filter import RunFilter

DEFAULT_OUT = "tcclip-out"
DEFAULT_DEMO_OUT = "tcclip-demo"
#: Options that are comma lists: of words, of integers.
WORDS, NUMBERS = ("datasets", "models", "variants"), ("shots", "splits", "seeds")
#: A range of more integers is a slip of the hand.
LONGEST_RANGE = 10_000
T = TypeVar("T")


def _options(panel: str | None = None) -> Callable[..., Any]:
    """What declares the options of a panel of the help, each by metavar, help and names."""

    def option(metavar: str, help: str, *names: str, **more: Any) -> Any:
        return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **more)

    return option


shown = _options()
_grid, _data, _filter = _options("Grid"), _options("Data"), _options("Which runs")
_execution = _options("Execution and failures")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tcclip {version('tcclip-sweeps')}")
        raise typer.Exit


def _names_in(module: str, attribute: str) -> Callable[[str], list[str]]:
    """What completes the last item of a comma list in a shell."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        names = getattr(import_module(module), attribute)
        names = names() if callable(names) else names
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete


_protocols = _names_in("protocols", "PROTOCOLS")

# ---- For all commands ----

Version = Annotated[
    bool, shown("", "Print it and exit.", "--version", callback=_print_version, is_eager=True)
]
Protocol = Annotated[
    str,
    typer.Argument(
        help="zero_shot, few_shot, base_to_novel or fully_supervised.", autocompletion=_protocols
    ),
]
ProtocolOrPaper = Annotated[
    str, typer.Argument(help="A protocol, or paper: all of them.", autocompletion=_protocols)
]
Demo = Annotated[
    bool, shown("", f"Moving shapes and the tiny model, in {DEFAULT_DEMO_OUT}.", "--demo")
]
Out = Annotated[
    str | None,
    shown(
        "FOLDER",
        f"Or s3://BUCKET/FOLDER; else TCCLIP_OUT, or {DEFAULT_OUT}.",
        envvar="TCCLIP_OUT",
        show_envvar=False,
    ),
]
Outs = Annotated[list[str] | None, shown("FOLDER", "Or s3://BUCKET/FOLDER; repeatable.", "--out")]
Format = Annotated[Literal["terminal", "md", "json"], shown("terminal|md|json", "How to print.")]
Power = Annotated[
    float | None,
    shown("POINTS", "Also: seeds and videos that would show so many points.", min=0.001),
]

# ---- Which runs ----

ProtocolOrFile = Annotated[
    str,
    typer.Argument(
        metavar="[PROTOCOL|FILE.yaml|paper]",
        autocompletion=_protocols,
        hidden=True,  # from the help: the line of usage has it all
    ),
]
Only = Annotated[str | None, _grid("RUN", "These runs alone: an id or pattern; needs no protocol.")]
Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Run ids or patterns.")]
Datasets = Annotated[
    str | None,
    _grid(
        "LIST",
        "Comma list; all by default.",
        autocompletion=_names_in("protocols.datasets", "DATASETS"),
    ),
]
Models = Annotated[
    str | None,
    _grid(
        "LIST",
        "From tc_clip,vifi_clip,clip,open_vclip.",
        autocompletion=_names_in("tcclip.methods", "names"),
    ),
]
Variants = Annotated[str | None, _grid("LIST", "From base,llm,pretrained.")]
EvaluatedVariants = Annotated[str | None, _grid("LIST", "base or llm.")]
Shots = Annotated[str | None, _grid("LIST", "few_shot: from 2,4,8,16; own lists: any.")]
Splits = Annotated[str | None, _grid("LIST", "base_to_novel: from 1,2,3; own lists: any.")]
Seeds = Annotated[str | None, _grid("LIST", "Integers and ranges: 0-4,9.")]
Settings = Annotated[
    list[str] | None, _grid("KEY=VALUE", "Any setting, e.g. train.lr=1e-5; repeatable.", "--set")
]
Name = Annotated[str | None, _grid("TITLE", "Of the runs' row in tables, plots and status.")]
Budget = Annotated[
    str | None, _grid("HOURS", "Plan at most so many GPU-hours, cheapest first: 40h.")
]
Search = Annotated[
    list[str] | None,
    _grid("KEY=SPACE", "train.lr=loguniform(1e-7,1e-5): Ray Tune's ASHA; repeatable."),
]
NumSamples = Annotated[int | None, _grid("N", "Trials of a search; 8 by default.", min=1)]
InitCheckpoint = Annotated[
    Path | None, _grid("FILE", "Pretrained runs start from it, not from a parent run.")
]
Checkpoint = Annotated[str, _grid("FILE", "Own or published: a path or hf://OWNER/REPO/FILE.")]
Ensemble = Annotated[bool, _grid("", "Also with CLIP's weights, by default.", show_default=False)]
DryRun = Annotated[bool, shown("", "Show the grid, run nothing.", "--dry-run")]

# ---- Their data ----

DataRoot = Annotated[Path | None, _data("FOLDER", "With one folder of videos a data set.")]
Annotations = Annotated[Path | None, _data("FOLDER", "With datasets_splits/ and labels/.")]
DatasetFile = Annotated[
    list[Path] | None, _data("FILE", "Own data set: its YAML or folder; repeatable.")
]

# ---- Where and how fast they execute ----

WorkersPerRun = Annotated[
    int | None, _execution("N", "GPUs, or CPU processes, a run; 1 by default.", min=1)
]
MicroBatch = Annotated[
    str | None, _execution("N|auto", "Videos at once; auto, the default: all that fit.")
]
EvalBatch = Annotated[int | None, _execution("N", "Test views at once on a worker.", min=1)]
LoaderWorkers = Annotated[
    str | None, _execution("N|auto", "Loader processes; auto, the default: the worker's CPUs.")
]
CacheSize = Annotated[
    str | None, _execution("GB|auto", "Of disk for decoded frames; auto: half of what is free.")
]
GpusPerWorker = Annotated[
    float | None,
    _execution("X", "0.25 puts 4 small runs on one GPU; 1 by default.", min=0.01, max=1),
]
Device = Annotated[str | None, _execution("NAME", "auto, the default, cpu or cuda.")]
ExecutorName = Annotated[str, _execution("NAME", "ray or local (this process).")]
Address = Annotated[
    str | None, _execution("RAY", "A Ray cluster: HOST:6379, auto, local (start one).")
]
TimeLimit = Annotated[
    str | None, _execution("TIME", "Pause before it ends: 4h, 1h30m; or a Slurm job's.")
]
MaxConcurrent = Annotated[int | None, _execution("N", "Runs at once, at most.", min=1)]

# ---- What failures lead to ----

Retries = Annotated[int, _execution("N", "Further attempts where they may help.", min=0)]
FailFast = Annotated[
    bool, _execution("", "End with the first run that failed for good.", "--fail-fast")
]
MaxUnreadable = Annotated[
    float | None,
    _execution("X", "Share of videos that cannot be read; 0.005 by default.", min=0, max=1),
]
Rerun = Annotated[str | None, _execution("RUNS", "failed, all, or a run id pattern.")]

# ---- Which of the runs there are ----

OfDatasets = Annotated[
    str | None, _filter("LIST", "Comma list, as of the others; all by default.", "--datasets")
]
OfModels = Annotated[str | None, _filter("LIST", "e.g. tc_clip,vifi_clip.", "--models")]
OfVariants = Annotated[str | None, _filter("LIST", "From base,llm,pretrained.", "--variants")]
OfShots = Annotated[str | None, _filter("LIST", "e.g. 2,4.", "--shots")]
OfSplits = Annotated[str | None, _filter("LIST", "Base splits, e.g. 1-3.", "--splits")]
OfSeeds = Annotated[
    str | None, _filter("LIST", "e.g. 0-4; a report's row needs all of them.", "--seeds")
]
OfName = Annotated[str | None, _filter("NAME", "Of the row, or a pattern.", "--name")]
OfRun = Annotated[str | None, _filter("ID", "Of the run, or a pattern.", "--run")]

# ---- What a report shows ----

PublishedRows = Annotated[
    Literal["beside", "all", "none"],
    shown("beside|all|none", "Beside what was asked for.", "--published"),
]

Partial = Annotated[bool, shown("", "Average incomplete groups too, marked.", "--partial")]
Epoch = Annotated[Literal["best", "last", "both"], shown("best|last|both", "Epoch.")]
Weights = Annotated[Literal["raw", "ensembled", "both"], shown("raw|ensembled|both", "Weights.")]
Check = Annotated[bool, shown("", "Exit 1 if a complete row is not as published.", "--check")]
Write = Annotated[Path | None, shown("FOLDER", "Also write every format into it.")]
ReportFormat = Annotated[
    Literal["terminal", "md", "json", "csv", "latex", "html"],
    shown("terminal|md|json|csv|latex|html", "How to print."),
]


def output_name(out: str | None, demo: bool) -> str:
    """The output folder that was given, or else the default one."""
    if out == "":
        raise UserError("--out '' is empty; give a folder, or leave it out")
    return out or (DEFAULT_DEMO_OUT if demo else DEFAULT_OUT)


def output_folder(out: str | None, demo: bool) -> Location:
    """The output folder, absolute; in a store, once that has answered."""
    from results.reading.location import check_reachable, location

    return check_reachable(location(output_name(out, demo)))


def integers(option: str, text: str | None) -> tuple[int, ...] | None:
    """`"0-4,9"` -> `(0, 1, 2, 3, 4, 9)`, each once; None stays None. UserError if it is none."""
    found: list[int] = []
    for part in comma_list(option, text, str) or ():
        match = re.fullmatch("([0-9]{1,18})-([0-9]{1,18})|(-?[0-9]{1,18})", part)
        if match is None:
            raise UserError(f"{option} {text!r}: not a comma list of integers and ranges (0-4,9)")
        first, last = (int(match[1]), int(match[2])) if match[1] else (int(part), int(part))
        if not first <= last < first + LONGEST_RANGE:
            raise UserError(
                f"{option} {text!r}: {part} ends before it begins"
                if last < first
                else f"{option} {text!r}: {part} is more than {LONGEST_RANGE} integers"
            )
        found += range(first, last + 1)
    return None if text is None else tuple(dict.fromkeys(found))


def comma_list(option: str, text: str | None, kind: Callable[[str], T]) -> tuple[T, ...] | None:
    """`"a,b"` -> `("a", "b")`; None stays None. UserError naming the option."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        values = tuple(kind(part) for part in parts)
    except ValueError as error:
        raise UserError(f"{option} {text!r}: not a comma list of numbers") from error
    if not values:
        raise UserError(f"{option} {text!r} is empty; leave the option out for all")
    return values


@dataclass(frozen=True)
class _Options:
    """Some of a command's options."""

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Those among the arguments of a command, which passes its `locals()`."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in arguments.items() if name in names})


@dataclass(frozen=True)
class GridOptions(_Options):
    """Which runs are wanted, as written on the command line; None: not given."""

    protocol: str
    demo: bool = False
    datasets: str | None = None
    models: str | None = None
    variants: str | None = None
    shots: str | None = None
    splits: str | None = None
    seeds: str | None = None
    settings: Sequence[str] | None = None
    name: str | None = None
    search: Sequence[str] | None = None
    num_samples: int | None = None
    init_checkpoint: Path | None = None
    only: str | None = None
    out: str | None = None


@dataclass(frozen=True)
class ExecutionOptions(_Options):
    """How runs are computed, what failures lead to, and where results go."""

    workers_per_run: int | None
    eval_batch: int | None
    loader_workers: str | None
    gpus_per_worker: float | None
    device: str | None
    max_unreadable: float | None
    #: `--set` values; those named execution.* may stand for the options above.
    settings: Sequence[str] | None
    executor: str
    address: str | None
    max_concurrent: int | None
    retries: int
    fail_fast: bool
    rerun: str | None
    out: str | None
    format: str
    micro_batch: str | None = None
    cache_size: str | None = None
    time_limit: str | None = None


@dataclass(frozen=True)
class FilterOptions(_Options):
    """Which of the runs there are, as written on the command line; None: any."""

    datasets: str | None
    models: str | None
    variants: str | None
    shots: str | None
    splits: str | None
    seeds: str | None
    name: str | None
    run: str | None

    def runs(self) -> RunFilter:
        """The filter; UserError for what is no list."""
        from results.reading.run_filter import RunFilter

        asked: dict[str, Any] = dict(vars(self))
        asked |= {one: comma_list(f"--{one}", asked[one], str) for one in WORDS}
        asked |= {one: integers(f"--{one}", asked[one]) for one in NUMBERS}
        return RunFilter(**asked)


# ---- Lists that are given twice ----


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base class does, but an error for a list given twice: the last alone counts, as
        of all options."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for one, times in Counter(order).items():
            if times > 1 and one.metavar in ("LIST", "RUN") and not getattr(one, "multiple", True):
                ctx.fail(f"{one.opts[-1]} is given {times} times; give one list or pattern")
        return super().parse_args(ctx, args)


def refuse_repeated(app: typer.Typer) -> None:
    """Make all commands of `app` refuse comma lists and patterns that are given twice."""
    for command in app.registered_commands:
        command.cls = _Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            refuse_repeated(group.typer_instance)
