"""The command line's options that several commands share, and the groups that two of them take.

Only Typer is imported here: `tcclip --help` reads this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import typer

DEFAULT_OUT = "tcclip-out"
DEFAULT_DEMO_OUT = "tcclip-demo"

# Panels of the help; what is in none of them comes first.
_GRID = "Grid"
_DATA = "Data"
_EXECUTION = "Execution"
_FAILURES = "Failures"


# ---- Which runs ----

Protocol = Annotated[
    str, typer.Argument(help="zero_shot, few_shot, base_to_novel or fully_supervised.")
]
ProtocolOrFile = Annotated[str, typer.Argument(help="A protocol, or a grid file (YAML).")]
Demo = Annotated[bool, typer.Option("--demo", help="On moving shapes with the tiny model.")]
Datasets = Annotated[
    str | None, typer.Option(help="Comma list; all by default.", rich_help_panel=_GRID)
]
Models = Annotated[
    str | None, typer.Option(help="From tc_clip,vifi_clip,clip.", rich_help_panel=_GRID)
]
Variants = Annotated[
    str | None, typer.Option(help="From base,llm,pretrained.", rich_help_panel=_GRID)
]
EvaluatedVariants = Annotated[str | None, typer.Option(help="base or llm.", rich_help_panel=_GRID)]
Shots = Annotated[str | None, typer.Option(help="few_shot: from 2,4,8,16.", rich_help_panel=_GRID)]
Splits = Annotated[
    str | None, typer.Option(help="base_to_novel: from 1,2,3.", rich_help_panel=_GRID)
]
Seeds = Annotated[str | None, typer.Option(help="Comma list of integers.", rich_help_panel=_GRID)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, e.g. train.lr=1e-5.", rich_help_panel=_GRID),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        "--search",
        help="e.g. train.lr=loguniform(1e-7,1e-5); with Ray Tune's ASHA.",
        rich_help_panel=_GRID,
    ),
]
NumSamples = Annotated[int, typer.Option(min=1, help="Trials of a search.", rich_help_panel=_GRID)]
InitCheckpoint = Annotated[
    Path | None,
    typer.Option(
        help="What pretrained runs start from, instead of a parent run.", rich_help_panel=_GRID
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option(help="Own or published: a path or hf://OWNER/REPO/FILE.", rich_help_panel=_GRID),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        help="Also ensembled with CLIP's weights, where the protocol does.", rich_help_panel=_GRID
    ),
]

# ---- Their data ----

DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder with one folder of videos a data set.", rich_help_panel=_DATA),
]
Annotations = Annotated[
    Path | None,
    typer.Option(help="Folder with datasets_splits/ and labels/.", rich_help_panel=_DATA),
]
DatasetFile = Annotated[
    list[Path] | None,
    typer.Option("--dataset-file", help="YAML of a data set of your own.", rich_help_panel=_DATA),
]

# ---- Where and how fast they execute ----

WorkersPerRun = Annotated[
    int, typer.Option(min=1, help="GPUs, or CPU processes, a run.", rich_help_panel=_EXECUTION)
]
MicroBatch = Annotated[
    int | None,
    typer.Option(min=1, help="Videos at once on a worker.", rich_help_panel=_EXECUTION),
]
EvalBatch = Annotated[
    int | None,
    typer.Option(min=1, help="Test views at once on a worker.", rich_help_panel=_EXECUTION),
]
LoaderWorkers = Annotated[
    int | None,
    typer.Option(min=0, help="Decoding processes a worker.", rich_help_panel=_EXECUTION),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_EXECUTION)]
ExecutorName = Annotated[
    str,
    typer.Option("--executor", help="ray or local (this process).", rich_help_panel=_EXECUTION),
]
Address = Annotated[
    str | None, typer.Option(help="An existing Ray cluster.", rich_help_panel=_EXECUTION)
]
MaxConcurrent = Annotated[
    int | None, typer.Option(min=1, help="Runs at once, at most.", rich_help_panel=_EXECUTION)
]

# ---- What failures lead to ----

Retries = Annotated[
    int,
    typer.Option(
        min=0,
        help="Further attempts at a run that failed, where they may help.",
        rich_help_panel=_FAILURES,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast",
        help="End with the first run that failed for good.",
        rich_help_panel=_FAILURES,
    ),
]
MaxUnreadable = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Share of videos that may be unreadable.", rich_help_panel=_FAILURES
    ),
]
Rerun = Annotated[
    str | None,
    typer.Option(help="failed, all, or a run id pattern.", rich_help_panel=_FAILURES),
]

# ---- What is written and shown ----

Out = Annotated[
    str | None,
    typer.Option(
        help=f"Output folder, or s3://BUCKET/FOLDER; by default {DEFAULT_OUT}, "
        f"{DEFAULT_DEMO_OUT} with --demo.",
        envvar="TCCLIP_OUT",
    ),
]
Outs = Annotated[
    list[str] | None,
    typer.Option(
        "--out",
        help="A folder or s3://BUCKET/FOLDER; may be given several times.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the grid, run nothing."),
]
Format = Annotated[Literal["terminal", "md", "json"], typer.Option(help="How to print.")]


@dataclass(frozen=True)
class _Options:
    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """The group's options among a command's `arguments`, its `locals()`, by their names."""
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
    search: Sequence[str] | None = None
    num_samples: int = 8
    init_checkpoint: Path | None = None


@dataclass(frozen=True)
class ExecutionOptions(_Options):
    """How runs are computed, what failures lead to, and where results go."""

    workers_per_run: int
    eval_batch: int | None
    loader_workers: int | None
    device: str
    max_unreadable: float
    #: `--set` values; those named execution.* win over the options above.
    settings: Sequence[str] | None
    executor: str
    address: str | None
    max_concurrent: int | None
    retries: int
    fail_fast: bool
    rerun: str | None
    out: str | None
    format: str
    micro_batch: int | None = None
