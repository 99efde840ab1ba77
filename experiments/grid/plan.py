"""From what was asked for to the runs of the grid (`RunSpec`s), parents before children."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import protocols
from experiments.errors import UserError, user_errors
from experiments.grid import overrides
from experiments.grid.spec import ListSpec, RunSpec
from experiments.grid.weights_file import CLIP_WEIGHTS, SCHEME
from protocols.datasets import DATASETS, Dataset, Split
from protocols.own_data import on_own_data
from protocols.protocol import Protocol, Suite
from results.records import RunKey
from tcclip import methods
from tcclip.config import AugmentConfig, FrozenModel, ModelConfig, TrainConfig, Views

#: A protocol's axis -> its name in a grid file; the command's option is called the same.
_AXES = {"shots": "shots", "base_split": "splits"}
#: Text length of LLM-rephrased class names (SPEC 5): CLIP's whole context.
LLM_TEXT_LENGTH = 77


@dataclass(frozen=True)
class Grid:
    """What was asked for; None on an axis means the protocol's own values.

    `rows` are alternative settings (an ablation's rows, a search's trials), each added to
    `settings`; `names`: number of a row -> its title, where it has one. `checkpoint`: sha256 of
    weights that take the place of a pretrained run's parent. `files`: sha256 -> file of the weights
    that are named by their content. `execution`: settings of how its runs execute. `sources`: axis
    -> where a grid file gives it; `notes`: what of the file the options of the command took the
    place of.
    """

    protocol: str
    demo: bool = False
    datasets: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    variants: tuple[str, ...] = ("base",)
    shots: tuple[int, ...] | None = None
    splits: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ({},)
    names: Mapping[int, str] = field(default_factory=dict)
    checkpoint: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def expand(
    grid: Grid, datasets: Mapping[str, Dataset] = DATASETS, *, trained: bool = True
) -> list[RunSpec]:
    """The runs of `grid`, each once, in the order data set, model, variant, value, row, seed.

    A run that starts from another's weights comes after it, and brings it along. `datasets`: all
    that are known, a user's own included; these may be used if they have a protocol's lists, and
    need none to train on unless they are `trained` on. UserError for a name the protocol does not
    know.
    """
    with user_errors():
        protocol = protocols.get(grid.protocol, demo=grid.demo)
    seeds = grid.seeds or protocol.seeds
    specs: dict[str, RunSpec] = {}
    for on_data, point, row in _points(grid, protocol, datasets, trained):
        variant = point.variant
        if _undefined(protocol, point.dataset, point.model, variant):
            continue
        settings, parent = overrides.Settings(grid.settings) | row, None
        spec = _resolve(on_data, datasets, point, settings, trained).with_digests(datasets)
        if variant == "pretrained" and grid.checkpoint is not None:
            changed = (*spec.key.overrides, f"init_checkpoint={grid.checkpoint[:10]}")
            key = spec.key.model_copy(update={"overrides": changed})
            spec = spec.model_copy(update={"key": key, "checkpoint": grid.checkpoint})
        elif variant == "pretrained":
            parent = _parent(protocol, datasets, point, settings)
        for seed in seeds:
            seeded = spec.with_seed(seed)
            if parent is not None:
                start = parent.with_seed(seed)
                specs.setdefault(start.run_id, start)
                seeded = seeded.model_copy(update={"parent": start.run_id})
            specs.setdefault(seeded.run_id, seeded)
    if not specs:
        raise UserError(f"nothing to run: {'; '.join(undefined_points(grid))}")
    if grid.checkpoint is not None and not any(spec.checkpoint for spec in specs.values()):
        raise UserError("--init-checkpoint is for --variants pretrained, which was not asked for")
    return list(specs.values())


def undefined_points(grid: Grid) -> list[str]:
    """Points of the grid that are no runs, each with the reason, to be shown to the user."""
    protocol = protocols.get(grid.protocol, demo=grid.demo)
    return [
        f"{name}, {model}, {variant}: {reason}"
        for name in grid.datasets or protocol.datasets
        for model in grid.models or protocol.models
        for variant in grid.variants
        if (reason := _undefined(protocol, name, model, variant))
    ]


def _undefined(protocol: Protocol, dataset_name: str, model: str, variant: str) -> str | None:
    """Why a point is no run; None if it is one."""
    if (variant, dataset_name) in protocol.undefined:
        return f"{protocol.name} has no {variant} variant on {dataset_name} (it was trained on it)"
    if variant == "pretrained" and not methods.get(model).trained:
        return f"{model} is never trained, so it has no pretrained variant"
    return None


def expand_evaluation(
    grid: Grid,
    model: ModelConfig,
    *,
    ensembled: bool,
    datasets: Mapping[str, Dataset] = DATASETS,
) -> list[RunSpec]:
    """The runs that only evaluate `grid.checkpoint`, a `model`, on a protocol's final suites.

    The checkpoint was trained at one point of the grid: UserError unless it is the only one.
    """
    protocol = protocols.get(grid.protocol, demo=grid.demo)
    # It draws the views, and the weights that a checkpoint started from at random.
    seeds = grid.seeds or protocol.seeds[:1]
    kept = model.model_dump(mode="json", exclude={"name"})  # the name is the grid's model
    assert grid.checkpoint is not None
    specs: dict[str, RunSpec] = {}
    for name, variant in itertools.product(grid.datasets or protocol.datasets, grid.variants):
        settings = {f"model.{one}": value for one, value in kept.items()}
        rephrased = name in datasets and any(one.llm for one in datasets[name].label_sets)
        if variant == "llm" and rephrased:  # longer names than it may have been trained with
            del settings["model.text_length"]
            if model.sizes.context_length < LLM_TEXT_LENGTH:
                settings["model.text_length"] = model.sizes.context_length
        trained = replace(
            grid,
            datasets=(name,),
            models=(model.name,),
            variants=(variant,),
            seeds=seeds,
            checkpoint=None,
            settings=overrides.Settings(settings) | grid.settings,
        )
        for one in expand(trained, datasets, trained=False):
            only = _only_evaluate(one, grid.checkpoint, ensembled).with_digests(datasets)
            specs.setdefault(only.run_id, only)
    return list(specs.values())


def _only_evaluate(spec: RunSpec, checkpoint: str, ensembled: bool) -> RunSpec:
    origin = f"checkpoint {checkpoint[:10]}{'' if ensembled else ', not ensembled'}"
    weight = spec.ensemble_weight if ensembled else None
    # Without ensembling no number depends on what the training started from.
    unused = () if weight is not None else (f"{CLIP_WEIGHTS}=random",)
    named = tuple(one for one in spec.key.overrides if one not in unused)
    return spec.model_copy(
        update={
            "key": spec.key.model_copy(update={"origin": origin, "overrides": named}),
            "train": spec.train.model_copy(update={"epochs": 0, "warmup_epochs": 0}),
            "ensemble_weight": weight,
            "selection": "given checkpoint",
            "parent": None,
            "checkpoint": checkpoint,
        }
    )


# ---- Axes of the grid ----


def _points(
    grid: Grid, protocol: Protocol, datasets: Mapping[str, Dataset], trained: bool
) -> Iterator[tuple[Protocol, RunKey, Mapping[str, Any]]]:
    """The points with their row of settings, and the protocol with the lists of their data set.

    A point stands for all its seeds, which change nothing but the run's key.
    """
    own = tuple(name for name in datasets if name not in DATASETS and not protocol.demo)
    known = protocol.datasets + own
    models = _checked(grid, "models", grid.models or protocol.models, methods.names(), protocol)
    with user_errors():  # a method of another package that cannot be imported
        for model in models:
            methods.get(model)
    variants = _checked(grid, "variants", grid.variants, protocol.variants, protocol)
    names = grid.datasets or protocol.datasets
    for name in _checked(grid, "datasets", names, known, protocol):
        with _naming(protocol, name):
            on_data = protocol
            if name in own:
                on_data = on_own_data(protocol, datasets[name], trained=trained)
        for model, variant, value, row in itertools.product(
            models, variants, _values(grid, on_data, trained), grid.rows
        ):
            yield on_data, _point(protocol, name, model, variant, value), row


@contextmanager
def _naming(protocol: Protocol, dataset_name: str) -> Iterator[None]:
    """A data set that lacks what the protocol needs as UserError."""
    try:
        yield
    except UserError:  # of the settings
        raise
    except ValueError as error:
        raise UserError(f"{protocol.name} cannot be run on {dataset_name}: {error}") from error


def _checked(
    grid: Grid, axis: str, names: Sequence[str], allowed: Sequence[str], protocol: Protocol
) -> tuple[str, ...]:
    """`names`, each once. UserError for one that is not allowed."""
    for name in names:
        if name not in allowed:
            kind = {"datasets": "data set"}.get(axis, axis.removesuffix("s"))
            demo = " in its demo" if protocol.demo else ""
            raise UserError(
                f"{grid.sources.get(axis, '')}{protocol.name} has no {kind} {name!r}{demo}; "
                f"allowed: {', '.join(allowed)}"
            )
    return tuple(dict.fromkeys(names))


def _values(grid: Grid, protocol: Protocol, trained: bool) -> tuple[int | None, ...]:
    """The shots or base splits to run; only None for a protocol that has neither.

    `protocol` is that of one data set. What is only evaluated was trained at one point, and needs
    no list of one's own to train on.
    """
    asked = {"shots": grid.shots, "base_split": grid.splits}
    for axis, values in asked.items():
        if values is not None and axis != protocol.axis:
            where = grid.sources.get(_AXES[axis], "")
            raise UserError(f"{where}{protocol.name} has no --{_AXES[axis]}; leave it out")
    if protocol.axis is None:
        return (None,)
    where = grid.sources.get(_AXES[protocol.axis], "")
    values = asked[protocol.axis] or protocol.axis_values
    if not trained and len(set(values)) != 1:
        raise UserError(
            f"a checkpoint was trained at one point of {grid.protocol}: say which with "
            f"--{_AXES[protocol.axis]}"
        )
    own = protocol.datasets[0] not in DATASETS
    allowed = ", ".join(map(str, protocol.axis_values)) or "none"
    unknown = [value for value in values if value not in protocol.axis_values]
    if own and trained and (unknown or not values):
        split = protocol.train_split.format(**{protocol.axis: unknown[0] if unknown else "N"})
        raise UserError(
            f"{where}{protocol.name} cannot be run on {protocol.datasets[0]}: it has no split "
            f"{split}; "
            f"it has lists for {protocol.axis}: {allowed}. Add the list to the data set's file"
        )
    if unknown and not own:
        raise UserError(
            f"{where}{protocol.name}: no {protocol.axis} {unknown[0]} in its lists; allowed: "
            f"{allowed}"
        )
    return tuple(dict.fromkeys(values))


# ---- One point with every hyper-parameter in place ----


def _point(protocol: Protocol, dataset: str, model: str, variant: str, value: int | None) -> RunKey:
    """A point of the grid, with seed 0. `value`: its shots or base split, None without."""
    return RunKey(
        protocol=protocol.name,
        protocol_version=protocol.version,
        dataset=dataset,
        model=model,
        variant=variant,
        shots=value if protocol.axis == "shots" else None,
        base_split=value if protocol.axis == "base_split" else None,
        seed=0,
        demo=protocol.demo,
    )


def _resolve(
    protocol: Protocol,
    datasets: Mapping[str, Dataset],
    point: RunKey,
    settings: Mapping[str, Any],
    trained: bool = True,
) -> RunSpec:
    """The run of a point, a pretrained one still without its parent."""
    data, value = datasets[point.dataset], point.shots or point.base_split
    method = methods.get(point.model)
    # The model is made for some class list; of own data, the one it is tested on will do.
    tested_only = point.dataset not in DATASETS and not (method.trained and trained)
    with _naming(protocol, point.dataset):
        if tested_only:
            split = data.split(protocol.suites[0].splits[0])
        else:
            split = protocol.point_split(data, value)
        train_list = _list("train", data, split, point.variant, Views())
        # SSv2 has no LLM names: its LLM row repeats the base row, so it is the same run (SPEC 5).
        llm = train_list.llm
        variant = "base" if point.variant == "llm" and not llm else point.variant
        model, train, augment, changed = _resolve_settings(protocol, point.model, llm, settings)
        selected_on = () if tested_only else (protocol.validation,)
        validation = _lists(selected_on, protocol, datasets, point, augment)
        suites = _lists(protocol.suites, protocol, datasets, point, augment)
    return RunSpec(
        key=point.model_copy(update={"variant": variant, "overrides": changed}),
        model=model,
        train=train,
        augment=augment,
        train_list=train_list,
        flip=data.flip,
        validation=validation,
        suites=suites,
        ensemble_weight=protocol.ensemble_weight if method.trained else None,
        selection=protocol.selection if method.trained else "untrained",
    )


def _parent(
    protocol: Protocol, datasets: Mapping[str, Dataset], point: RunKey, settings: Mapping[str, Any]
) -> RunSpec:
    """The zero-shot base run of the same model and model settings (SPEC 5, variant P)."""
    zero_shot = protocols.get("zero_shot", demo=protocol.demo)
    start = _point(zero_shot, zero_shot.datasets[0], point.model, "base", None)
    shared = {name: value for name, value in settings.items() if name.startswith("model.")}
    given = overrides.Settings(shared, overrides.Settings(settings).sources)
    return _resolve(zero_shot, datasets, start, given).with_digests(datasets)


def _resolve_settings(
    protocol: Protocol, model: str, llm: bool, settings: Mapping[str, Any]
) -> tuple[ModelConfig, TrainConfig, AugmentConfig, tuple[str, ...]]:
    """The protocol's settings of `model` with the user's, and which of them differ."""
    config = methods.settings({"name": model, **protocol.model})
    if llm:
        config = config.model_copy(update={"text_length": LLM_TEXT_LENGTH})
    untrained = {} if methods.get(model).trained else {"epochs": 0, "warmup_epochs": 0.0}
    before: dict[str, FrozenModel] = {
        "model": config,
        "train": protocol.train.model_copy(update=untrained),
        "augment": protocol.augment,
    }
    overrides.check_names(settings, before)
    if "model.name" in settings:
        where = overrides.Settings(settings).named("model.name")
        raise UserError(f"{where}: the model is an axis of the grid; use --models")
    config = overrides.apply(config, settings, "model")
    train = overrides.apply(protocol.train, settings, "train").model_copy(update=untrained)
    augment = overrides.apply(protocol.augment, settings, "augment")
    try:
        methods.resolved(config)
    except ValueError as error:
        raise UserError(f"{model} cannot be built: {error}") from error
    after = {"model": config, "train": train, "augment": augment}
    changed = overrides.changed_settings(before, after)
    return config, train, augment, tuple(map(_short, changed))


def _short(override: str) -> str:
    """A file's sha256 is shown by its beginning."""
    name, _, content = override.partition(f"={SCHEME}")
    return f"{name}={SCHEME}{content[:10]}" if content else override


def _lists(
    suites: Iterable[Suite],
    protocol: Protocol,
    datasets: Mapping[str, Dataset],
    point: RunKey,
    augment: AugmentConfig,
) -> tuple[ListSpec, ...]:
    """The lists that a model trained at `point` is evaluated on."""
    lists = []
    for suite in (protocol.point_suite(suite, point.dataset) for suite in suites):
        data = datasets[suite.dataset]
        views = suite.views.model_copy(update={"sampling": augment.view_sampling})
        splits = map(data.split, suite.splits)
        lists += [_list(suite.name, data, split, point.variant, views) for split in splits]
    return tuple(lists)


def _list(suite: str, data: Dataset, split: Split, variant: str, views: Views) -> ListSpec:
    labels = data.labels(split.labels)
    llm = variant == "llm" and labels.llm is not None
    return ListSpec(
        suite=suite, dataset=data.name, split=split, labels=labels, llm=llm, views=views
    )
