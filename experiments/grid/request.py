"""From a command's options to its runs and how they execute. UserError for what cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import protocols
from experiments.errors import UserError, user_errors
from experiments.grid import grid_file, overrides, plan, search_space
from experiments.grid.grid_file import EXECUTION, MAX_SEED
from experiments.grid.options import (
    NUMBERS,
    WORDS,
    ExecutionOptions,
    GridOptions,
    comma_list,
    integers,
)  # fmt: skip
from experiments.grid.overrides import Settings
from experiments.grid.plan import Grid
from experiments.grid.spec import RunSpec
from experiments.grid.weights_file import (
    CLIP_WEIGHTS,
    StartWeights,
    activation_notes,
    check_use,
    digest,
    replace_path,
    weights_to_ensemble,
)
from protocols.datasets import Dataset
from tcclip import methods
from tcclip.config import Execution

#: Of a search, where --num-samples does not say.
TRIALS = 8


@dataclass(frozen=True)
class RunPlan:
    """A grid and its runs. `notes`: what the user may miss among them, and why it is not there.

    `searched`: the runs are the trials of a search. `names`: run id -> the title of its row.
    """

    grid: Grid
    specs: list[RunSpec]
    notes: list[str]
    searched: bool = False
    names: Mapping[str, str] = field(default_factory=dict)


def plan_sweep(
    options: GridOptions, datasets: Mapping[str, Dataset], given: Sequence[str] = ()
) -> RunPlan:
    """The runs of a sweep. `datasets`: all that are known, the user's own included; `given`: those
    whose files were given with the command, which are meant where none is named."""
    grid = _on_given(make_grid(options), given)
    specs = plan.expand(grid, datasets)
    if options.search:
        check_search(specs)
    notes = [*grid.notes, *(f"not in the grid: {text}" for text in plan.undefined_points(grid))]
    notes += _without_llm(grid, specs)
    used = [(spec.train.clip_weights, spec.model.activation) for spec in specs]
    notes += activation_notes(used, grid.files)
    names = _names(grid, lambda row: plan.expand(row, datasets), notes)
    return RunPlan(grid, specs, notes, searched=bool(options.search), names=names)


def _without_llm(grid: Grid, specs: Sequence[RunSpec]) -> list[str]:
    """What is said of data sets without LLM names whose llm variant was asked for."""
    if "llm" not in grid.variants:
        return []
    rephrased = {spec.key.dataset for spec in specs if spec.key.variant == "llm"}
    others = dict.fromkeys(one.key.dataset for one in specs if one.key.dataset not in rephrased)
    return [f"{name} has no LLM names: its llm runs are its base runs" for name in others]


def plan_evaluation(
    options: GridOptions,
    checkpoint: str,
    *,
    ensembled: bool,
    datasets: Mapping[str, Dataset],
    given: Sequence[str] = (),
) -> RunPlan:
    """The runs that evaluate a checkpoint; one with an hf:// name is fetched first.

    `datasets` and `given`: as for a sweep. The model, and how its videos are cropped, are what the
    checkpoint names. It is ensembled with no weights but those it started from; without that,
    CLIP's weights are asked for only where it holds no token embedding.
    """
    from tcclip.model.checkpoints import describe_checkpoint, fetch, test_view

    grid = _on_given(make_grid(options), given)
    notes = [*grid.notes, *_unused(grid)]
    with user_errors():
        path = Path(fetch(checkpoint)).absolute()
        content = describe_checkpoint(path)
        model = methods.settings(content["model"])
        recorded = content["start"] and StartWeights.model_validate(content["start"])
        protocol = protocols.get(grid.protocol, demo=grid.demo)
        said = test_view(content.get("test_view"), model, protocol.augment)
        view = {f"augment.{name}": value for name, value in said.items()}
        settings = Settings(view, dict.fromkeys(view, "of the checkpoint,")) | grid.settings
    mixed = ensembled and protocol.ensemble_weight is not None and methods.get(model.name).trained
    if mixed:
        start = weights_to_ensemble(
            recorded, settings.get(CLIP_WEIGHTS), protocol.train.clip_weights
        )
        if isinstance(start, StartWeights):
            settings = settings | {CLIP_WEIGHTS: start.clip_weights}
        else:
            ensembled, mixed, notes = False, False, [*notes, f"not ensembled: {start}"]
    # CLIP's own weights are needed to ensemble with, and for what a checkpoint leaves out.
    if not mixed and content["token_embedding"]:
        settings = Settings({CLIP_WEIGHTS: "random"}) | settings
    checkpoint_digest = digest(path)
    grid = replace(
        grid,
        settings=settings,
        # With the seed it was trained with, its test views and random weights are drawn again.
        seeds=None if recorded is None else (recorded.seed,),
        checkpoint=checkpoint_digest,
        files={**grid.files, checkpoint_digest: path},
    )
    expand = partial(plan.expand_evaluation, model=model, ensembled=ensembled, datasets=datasets)
    return RunPlan(grid, expand(grid), notes, names=_names(grid, expand, notes))


def _names(grid: Grid, expand: Callable[[Grid], list[RunSpec]], notes: list[str]) -> dict[str, str]:
    """Run id -> the name of its row; of two rows with the same run, of the first, as `notes` get to
    say. A parent in another protocol has none."""
    names: dict[str, str] = {}
    unused: dict[str, str] = {}
    for number, name in grid.names.items():
        for spec in expand(replace(grid, rows=(grid.rows[number],))):
            if spec.key.protocol == grid.protocol:
                kept = names.setdefault(spec.run_id, name)
                unused |= {name: kept} if kept != name else {}
    notes += [f"row {name!r} is the same as row {kept!r}" for name, kept in unused.items()]
    return names


def _unused(grid: Grid) -> list[str]:
    """What an evaluation does not use of a grid file."""
    axes = [axis for axis in ("models", "seeds") if axis in grid.sources]
    return [f"{grid.sources[axis]}{axis}: not used, the checkpoint says which" for axis in axes]


def _on_given(grid: Grid, given: Sequence[str]) -> Grid:
    if not given:
        return grid
    if grid.demo:
        raise UserError("the demo has its own videos: drop --demo or --dataset-file")
    return grid if grid.datasets is not None else replace(grid, datasets=tuple(given))


def make_grid(options: GridOptions) -> Grid:
    """The grid of a protocol or a grid file.

    What is given twice: --search wins over --set, the options over a grid file, its rows over its
    `set`, and this over the protocol's settings. `notes` of the grid: what was not used therefore.
    """
    grid, notes = _with_axes(options)
    files = dict(grid.files)
    changes = [one for one in options.settings or () if not one.startswith(EXECUTION)]
    given = replace_path(overrides.parse(changes), files)
    checkpoint = None
    if options.init_checkpoint is not None:
        checkpoint = digest(options.init_checkpoint)
        check_use(options.init_checkpoint, "checkpoint")
        files[checkpoint] = options.init_checkpoint.absolute()
    trials = [replace_path(trial, files) for trial in _trials(options)]
    searched = Settings({name: "--search" for trial in trials[:1] for name in trial})
    rows: list[Settings] = []
    names: dict[int, str] = {}
    for number, row in enumerate(grid.rows):
        kept = _without(Settings(row), given | searched, notes)
        own = [kept | Settings(trial, searched) for trial in trials] or [kept]
        name = grid.names.get(number) if options.name is None else options.name.strip()
        names |= {len(rows) + n: name for n in range(len(own)) if name is not None}
        rows += own
    settings = _without(Settings(grid.settings), given | searched, notes)
    settings = settings | _without(given, searched, notes)
    return replace(
        grid, settings=settings, rows=tuple(rows), names=names, checkpoint=checkpoint,
        files=files, notes=tuple(notes),
    )  # fmt: skip


def _with_axes(options: GridOptions) -> tuple[Grid, list[str]]:
    """The grid with the axes that were asked for, and what of a grid file they win over."""
    grid = Grid(options.protocol, demo=options.demo)
    if options.protocol.endswith((".yaml", ".yml")):
        grid = grid_file.read(options.protocol, demo=options.demo)
    axes: dict[str, Any] = {
        name: comma_list(f"--{name}", getattr(options, name), str) for name in WORDS
    }
    axes |= {name: integers(f"--{name}", getattr(options, name)) for name in NUMBERS}
    asked = {name: values for name, values in axes.items() if values is not None}
    notes = [
        f"--{axis} {','.join(map(str, values))} wins over "
        f"{grid.sources[axis]}{axis} {','.join(map(str, getattr(grid, axis)))}"
        for axis, values in asked.items()
        if axis in grid.sources and values != getattr(grid, axis)
    ]
    sources = {axis: where for axis, where in grid.sources.items() if axis not in asked}
    grid = replace(grid, **asked, sources=sources)
    for seed in grid.seeds or ():
        if not 0 <= seed < MAX_SEED:
            raise UserError(f"--seeds {seed}; allowed: 0 to {MAX_SEED - 1}")
    if options.name is not None:
        grid_file.row_name(options.name, "--name")  # refused at once
        notes += [f"--name wins over the row's name {one!r}" for one in grid.names.values()]
    return grid, notes


def _trials(options: GridOptions) -> Sequence[Mapping[str, Any]]:
    """The rows of a search; none without one. UserError for a setting that is searched twice."""
    if not options.search:
        if options.num_samples is not None:
            raise UserError("--num-samples is for --search, which is not given")
        return ()
    searches = [search_space.parse(one) for one in options.search]
    names = [name for name, _ in searches]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--search {name} is given twice; drop one of them")
    return search_space.trials(searches, options.num_samples or TRIALS)


def _without(settings: Settings, others: Mapping[str, Any], notes: list[str]) -> Settings:
    """`settings` without what `others` give, which win; what is dropped goes to `notes`."""
    for name in settings:
        if name in others and settings[name] != others[name]:
            stronger = f"{name}={others[name]} of the command"
            stronger = "--search" if others[name] == "--search" else stronger
            notes.append(f"{stronger} wins over {settings.named(name)}={settings[name]}")
    kept = {name: value for name, value in settings.items() if name not in others}
    return Settings(kept, settings.sources)


def check_search(specs: Sequence[RunSpec]) -> None:
    """UserError unless the trials of a search can be compared with one another.

    ASHA stops what falls behind; accuracies of different data sets or shots say nothing of that.
    """
    keys = [spec.key for spec in specs]
    points = {(key.dataset, key.model, key.variant, key.shots, key.base_split) for key in keys}
    if any(spec.parent for spec in specs):
        raise UserError("--search of pretrained runs: give what they start from, --init-checkpoint")
    if len(points) > 1:
        raise UserError(
            f"--search compares trials at one point of the grid, and there are {len(points)}: "
            "choose one with --datasets, --models, --variants, --shots or --splits"
        )


def make_execution(options: ExecutionOptions, plan: RunPlan | None = None) -> Execution:
    """How runs execute: `--set execution.NAME=VALUE` wins over the options, these over the plan's
    grid file. What was not used therefore is added to the plan's notes."""
    # Options are named like the fields, but for one.
    values = {name: getattr(options, name, None) for name in Execution.model_fields}
    values["workers"] = options.workers_per_run
    given = {name: value for name, value in values.items() if value is not None}
    try:
        execution = Execution.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = _option(str(first["loc"][0]))
        raise UserError(f"{option} {first['input']!r}: {first['msg']}") from error
    of_file = Settings({} if plan is None else plan.grid.execution)
    settings = overrides.parse([one for one in options.settings or () if one.startswith(EXECUTION)])
    for some in (of_file, settings):
        overrides.check_names(some, {"execution": execution})
    notes = [] if plan is None else plan.notes
    changed = overrides.apply(execution, settings, "execution")
    for name in given:
        if getattr(execution, name) != getattr(changed, name):
            stronger = f"--set {EXECUTION}{name}={settings[EXECUTION + name]}"
            notes.append(f"{stronger} wins over {_option(name)} {given[name]}")
    used = {f"{EXECUTION}{name}": getattr(changed, name) for name in given} | settings
    return overrides.apply(execution, _without(of_file, used, notes) | settings, "execution")


def _option(field: str) -> str:
    """The option that gives a field of `Execution`."""
    return "--workers-per-run" if field == "workers" else "--" + field.replace("_", "-")
