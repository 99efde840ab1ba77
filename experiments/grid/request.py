"""What a command line asks for, as a grid: options, grid files, searches, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

import protocols
from experiments.errors import UserError, user_errors
from experiments.grid import grid_file as gridfile
from experiments.grid import overrides, plan
from experiments.grid import search_space as search
from experiments.grid.plan import Grid
from experiments.grid.spec import RunSpec
from experiments.grid.weights_file import SETTING, Start, by_content, digest, starting
from protocols.datasets import Dataset
from tcclip.config import Execution, ModelConfig

#: Seeds are below: what numpy, torch and random take alike.
SEEDS = 2**32
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def comma_list(option: str, text: str | None, kind: Callable[[str], T]) -> tuple[T, ...] | None:
    """`"a,b"` -> `("a", "b")`; None stays None. UserError naming the option."""
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


def validated(model: type[M], values: dict[str, Any]) -> M:
    """`model` made of options' values; UserError naming the option that does not fit."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise UserError(f"{option} {first['input']!r}: {first['msg']}") from error


def make_grid(
    protocol: str,
    *,
    demo: bool,
    settings: Sequence[str],
    searches: Sequence[str] = (),
    samples: int = 1,
    checkpoint: Path | None = None,
    **axes: Any,
) -> Grid:
    """The grid of a protocol or grid file; options that are given win over the file's.

    `checkpoint`: a file that takes the place of a pretrained run's parent. UserError for what
    cannot be read.
    """
    base = Grid(protocol, demo=demo)
    if gridfile.is_grid_file(protocol):
        base = gridfile.read(protocol, demo=demo)
    given = {name: value for name, value in axes.items() if value is not None}
    for seed in given.get("seeds", base.seeds) or ():
        if not 0 <= seed < SEEDS:
            raise UserError(f"--seeds {seed}; allowed: 0 to {SEEDS - 1}")
    files = dict(base.files)
    changed = base.settings | by_content(overrides.parse(settings), files)
    start = None
    if checkpoint is not None:
        start = digest(checkpoint)
        files[start] = checkpoint.absolute()
    grid = replace(base, **given, settings=changed, checkpoint=start, files=files)
    if not searches:
        return grid
    if samples < 1:
        raise UserError(f"--num-samples {samples}: at least 1 trial")
    trials = search.trials([search.parse(one) for one in searches], samples)
    drawn = [by_content(trial, files) for trial in trials]
    rows = tuple(row | trial for row in grid.rows for trial in drawn)
    return replace(grid, rows=rows, files=files)


def check_search(specs: Sequence[RunSpec]) -> None:
    """UserError unless the trials of a search can be compared with one another.

    ASHA stops what falls behind; accuracies of different data sets or shots say nothing of that.
    """
    points = {
        (s.key.dataset, s.key.model, s.key.variant, s.key.shots, s.key.base_split) for s in specs
    }
    if any(spec.parent for spec in specs):
        raise UserError("--search of pretrained runs: give what they start from, --init-checkpoint")
    if len(points) > 1:
        raise UserError(
            f"--search compares trials at one point of the grid, and there are {len(points)}: "
            "choose one with --datasets, --models, --variants, --shots or --splits"
        )


def split_settings(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """`--set` values that change numbers, and those of how a run executes (`execution.NAME`)."""
    how = [one for one in settings if one.startswith("execution.")]
    return [one for one in settings if one not in how], how


def make_execution(settings: Sequence[str], **options: Any) -> Execution:
    """How runs execute: the options that were given, then `--set execution.NAME=VALUE`."""
    base = validated(Execution, {name: v for name, v in options.items() if v is not None})
    changed = overrides.parse(settings)
    overrides.check_names(changed, {"execution": base})
    return overrides.apply(base, changed, "execution")


@dataclass(frozen=True)
class Evaluation:
    """The runs that evaluate a checkpoint, and the files they need by their sha256.

    `note`: why they are not ensembled although that was asked for; None if they are.
    """

    specs: list[RunSpec]
    files: dict[str, Path]
    note: str | None = None


def evaluation(
    grid: Grid, checkpoint: str, *, ensembled: bool, datasets: Mapping[str, Dataset]
) -> Evaluation:
    """What evaluating a checkpoint takes; one with an hf:// name is fetched first.

    The model is the one the checkpoint says it is; it is ensembled with the weights it started
    from alone. UserError for what cannot be read, and for other starting weights than its own.
    """
    from tcclip.model.checkpoints import describe, fetch

    with user_errors():
        path = Path(fetch(checkpoint)).absolute()
        content = describe(checkpoint)
        model = ModelConfig.model_validate(content["model"])
        recorded = content["start"] and Start.model_validate(content["start"])
        protocol = protocols.get(grid.protocol, demo=grid.demo)
    note = None
    if ensembled and protocol.ensemble_weight is not None and model.name != "clip":
        asked = grid.settings.get(SETTING)
        start = starting(recorded, asked, protocol.train.clip_weights)
        if isinstance(start, Start):
            grid = replace(grid, settings=grid.settings | {SETTING: start.clip_weights})
        else:
            ensembled, note = False, start
    # With the seed it was trained with, its test views and random weights are drawn again.
    grid = replace(grid, seeds=None if recorded is None else (recorded.seed,))
    # CLIP's own weights are needed to ensemble with, and for what a checkpoint leaves out.
    if not ensembled and content["token_embedding"]:
        grid = replace(grid, settings={"train.clip_weights": "random"} | grid.settings)
    content_of = digest(path)
    grid = replace(grid, checkpoint=content_of, files={**grid.files, content_of: path})
    specs = plan.evaluations(grid, model, ensembled=ensembled, datasets=datasets)
    return Evaluation(specs, dict(grid.files), note)
