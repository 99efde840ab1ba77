"""From what was asked for to the runs of the grid (`RunSpec`s), parents before children."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import protocols
from experiments.errors import UserError
from experiments.grid import overrides
from experiments.grid.spec import ListSpec, RunSpec
from experiments.grid.weights_file import SCHEME
from protocols.datasets import DATASETS, Dataset
from protocols.protocol import Protocol, Suite
from results.records import RunKey
from tcclip.checks import resolve as buildable
from tcclip.config import AugmentConfig, FrozenModel, ModelConfig, TrainConfig

MODELS = ("tc_clip", "vifi_clip", "clip")
#: Text length of LLM-rephrased class names (SPEC 5): CLIP's whole context.
LLM_TEXT_LENGTH = 77


#: A run's settings, and which of them differ from the protocol's.
_Configured = tuple[ModelConfig, TrainConfig, AugmentConfig, tuple[str, ...]]


@dataclass(frozen=True)
class Grid:
    """What was asked for; None on an axis means the protocol's own values.

    `rows` are alternative settings (an ablation's rows, a search's trials), each added to
    `settings`. `checkpoint`: sha256 of weights that take the place of a pretrained run's parent.
    `files`: sha256 -> file of the weights that are named by their content.
    """

    protocol: str
    demo: bool = False
    datasets: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    variants: tuple[str, ...] = ("base",)
    shots: tuple[int, ...] | None = None
    splits: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = ({},)
    checkpoint: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def expand(grid: Grid, datasets: Mapping[str, Dataset] = DATASETS) -> list[RunSpec]:
    """The runs of `grid`, each once, in the order data set, model, variant, point, row, seed.

    A run that starts from another's weights comes after it, and brings it along. `datasets`: all
    that are known, a user's own included; these may be trained on if they have a protocol's lists.
    UserError for a name the protocol does not know.
    """
    try:
        protocol = protocols.get(grid.protocol, demo=grid.demo)
    except ValueError as error:
        raise UserError(str(error)) from error
    own = tuple(name for name in datasets if name not in DATASETS and not protocol.demo)
    names = chosen(
        "data set", grid.datasets, protocol.datasets + own, protocol, default=protocol.datasets
    )
    models = chosen("model", grid.models, MODELS, protocol, default=protocol.models)
    variants = chosen("variant", grid.variants, protocol.variants, protocol)
    specs: dict[str, RunSpec] = {}
    seeds = grid.seeds or protocol.seeds
    resolver = _Resolver(protocol, datasets)
    for name, model, variant, point, row in itertools.product(
        names, models, variants, _points(grid, protocol), range(len(grid.rows))
    ):
        if _undefined(protocol, name, model, variant):
            continue
        settings = grid.settings | grid.rows[row]
        one = resolver.resolve(name, model, variant, point, seeds[0], settings, row)
        parent = None
        if variant == "pretrained" and grid.checkpoint is not None:
            one = _started_from(one, grid.checkpoint)
        elif variant == "pretrained":
            parent = resolver.parent(model, seeds[0], settings, row)
        for spec in _seeded(one, parent, seeds):
            specs.setdefault(spec.run_id, spec)
    if not specs:
        raise UserError(f"nothing to run: {'; '.join(left_out(grid))}")
    if grid.checkpoint is not None and not any(spec.checkpoint for spec in specs.values()):
        raise UserError("--init-checkpoint is for --variants pretrained, which was not asked for")
    return list(specs.values())


def left_out(grid: Grid) -> list[str]:
    """Points of the grid that are no runs, each with the reason: shown, not dropped in silence."""
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
    if model == "clip" and variant == "pretrained":
        return "clip is never trained, so it has no pretrained variant"
    return None


def evaluations(
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
    grid = replace(grid, models=(model.name,), seeds=seeds)
    axis = "--shots" if protocol.axis == "shots" else "--splits"
    if len(_points(grid, protocol)) > 1:
        raise UserError(
            f"a checkpoint was trained at one point of {grid.protocol}: say which with {axis}"
        )
    # The name is the grid's model, the text length the class names' (LLM names are longer).
    kept = model.model_dump(mode="json", exclude={"name", "text_length"})
    given = {f"model.{name}": value for name, value in kept.items()}
    assert grid.checkpoint is not None
    bare = replace(grid, checkpoint=None, settings=given | grid.settings)
    return [_only_evaluated(spec, grid.checkpoint, ensembled) for spec in expand(bare, datasets)]


def _seeded(spec: RunSpec, parent: RunSpec | None, seeds: Sequence[int]) -> Iterator[RunSpec]:
    """`spec` with every seed, each after its parent: nothing else depends on the seed."""
    for seed in seeds:
        update: dict[str, Any] = {"key": spec.key.model_copy(update={"seed": seed})}
        if parent is not None:
            key = parent.key.model_copy(update={"seed": seed})
            begun = parent.model_copy(update={"key": key})
            update["parent"] = begun.run_id
            yield begun
        yield spec.model_copy(update=update)


def _started_from(spec: RunSpec, checkpoint: str) -> RunSpec:
    """A pretrained run that starts from a file instead of a parent run."""
    changed = (*spec.key.overrides, f"init_checkpoint={checkpoint[:10]}")
    key = spec.key.model_copy(update={"overrides": changed})
    return spec.model_copy(update={"key": key, "parent": None, "checkpoint": checkpoint})


def _only_evaluated(spec: RunSpec, checkpoint: str, ensembled: bool) -> RunSpec:
    origin = f"checkpoint {checkpoint[:10]}{'' if ensembled else ', not ensembled'}"
    return spec.model_copy(
        update={
            "key": spec.key.model_copy(update={"origin": origin}),
            "train": spec.train.model_copy(update={"epochs": 0, "warmup_epochs": 0}),
            "ensemble_weight": spec.ensemble_weight if ensembled else None,
            "selection": "given checkpoint",
            "parent": None,
            "checkpoint": checkpoint,
        }
    )


def chosen(
    what: str,
    asked: Sequence[str] | None,
    allowed: Sequence[str],
    protocol: Protocol,
    default: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """`asked`, checked against `allowed`; without it `default`, or all that is allowed."""
    for name in asked or ():
        if name not in allowed:
            raise UserError(
                f"{protocol.name} has no {what} {name!r}{' in its demo' if protocol.demo else ''}; "
                f"allowed: {', '.join(allowed)}"
            )
    return tuple(dict.fromkeys(asked or default or allowed))


def _points(grid: Grid, protocol: Protocol) -> tuple[int | None, ...]:
    asked = {"shots": grid.shots, "base_split": grid.splits}
    for axis, values in asked.items():
        if values is not None and axis != protocol.axis:
            option = "--shots" if axis == "shots" else "--splits"
            raise UserError(f"{protocol.name} has no {option}; drop the option")
    if protocol.axis is None:
        return (None,)
    values = asked[protocol.axis] or protocol.axis_values
    for value in values:
        if value not in protocol.axis_values:
            allowed = ", ".join(map(str, protocol.axis_values))
            raise UserError(
                f"{protocol.name}: no {protocol.axis} {value} in its lists; allowed: {allowed}"
            )
    return tuple(dict.fromkeys(values))


@dataclass(frozen=True)
class _Resolver:
    """Points of a protocol's grid with every hyper-parameter in place.

    What several points have in common is made once: settings a row, lists a data set.
    """

    protocol: Protocol
    datasets: Mapping[str, Dataset]
    _settings: dict[Any, _Configured] = field(default_factory=dict)
    _suites: dict[Any, tuple[ListSpec, ...]] = field(default_factory=dict)
    _parents: dict[Any, RunSpec] = field(default_factory=dict)

    def resolve(
        self,
        dataset_name: str,
        model: str,
        variant: str,
        point: int | None,
        seed: int,
        settings: dict[str, Any],
        row: int,
    ) -> RunSpec:
        """One point of the grid, a pretrained one without its parent. `row`: of `settings`."""
        protocol, data = self.protocol, self.datasets[dataset_name]
        try:
            train_split = protocol.point_split(data, point)
            labels = data.labels(train_split.labels)
            lists = self._lists(dataset_name, variant == "llm")
        except ValueError as error:
            raise UserError(f"{protocol.name} cannot be run on {dataset_name}: {error}") from error
        # SSv2 has no LLM names: its LLM row repeats the base row, so it is the same run (SPEC 5).
        llm = variant == "llm" and labels.llm is not None
        variant = "base" if variant == "llm" and not llm else variant
        model_config, train, augment, changed = self._configured(model, llm, settings, row)
        key = RunKey(
            protocol=protocol.name,
            protocol_version=protocol.version,
            dataset=dataset_name,
            model=model,
            variant=variant,
            shots=point if protocol.axis == "shots" else None,
            base_split=point if protocol.axis == "base_split" else None,
            seed=seed,
            demo=protocol.demo,
            overrides=changed,
        )
        sampled = _sampled(lists, augment)
        return RunSpec(
            key=key,
            model=model_config,
            train=train,
            augment=augment,
            train_list=ListSpec(
                suite="train", dataset=dataset_name, split=train_split, labels=labels, llm=llm
            ),
            flip=data.flip,
            validation=sampled[: len(protocol.validation.splits)],
            suites=sampled[len(protocol.validation.splits) :],
            ensemble_weight=None if model == "clip" else protocol.ensemble_weight,
            selection=protocol.selection if model != "clip" else "untrained",
        )

    def parent(self, model: str, seed: int, settings: dict[str, Any], row: int) -> RunSpec:
        """The zero-shot base run of the same model and seed (SPEC 5, variant P).

        It takes the model's settings, which must fit its children's; training settings are its own.
        """
        if (model, row) not in self._parents:
            zero_shot = protocols.get("zero_shot", demo=self.protocol.demo)
            shared = {name: one for name, one in settings.items() if name.startswith("model.")}
            resolver, name = _Resolver(zero_shot, self.datasets), zero_shot.datasets[0]
            parent = resolver.resolve(name, model, "base", None, seed, shared, 0)
            self._parents[model, row] = parent
        return self._parents[model, row]

    def _configured(self, model: str, llm: bool, settings: dict[str, Any], row: int) -> _Configured:
        if (model, llm, row) not in self._settings:
            made = _configured(self.protocol, model, llm, settings)
            self._settings[model, llm, row] = made
        return self._settings[model, llm, row]

    def _lists(self, dataset_name: str, llm: bool) -> tuple[ListSpec, ...]:
        """The lists of the validation, then those of the suites."""
        if (dataset_name, llm) not in self._suites:
            suites = (self.protocol.validation, *self.protocol.suites)
            made = _lists(suites, self.protocol, self.datasets, dataset_name, llm)
            self._suites[dataset_name, llm] = made
        return self._suites[dataset_name, llm]


def _configured(protocol: Protocol, model: str, llm: bool, settings: dict[str, Any]) -> _Configured:
    """The protocol's settings of `model` with the user's, and which of them differ."""
    config = ModelConfig.model_validate({"name": model, **protocol.model})
    if llm:
        config = config.model_copy(update={"text_length": LLM_TEXT_LENGTH})
    untrained = {"epochs": 0, "warmup_epochs": 0.0} if model == "clip" else {}
    before: dict[str, FrozenModel] = {
        "model": config,
        "train": protocol.train.model_copy(update=untrained),
        "augment": protocol.augment,
    }
    overrides.check_names(settings, before)
    if "model.name" in settings:
        raise UserError("--set model.name: the model is an axis of the grid; use --models")
    config = overrides.apply(config, settings, "model")
    train = overrides.apply(protocol.train, settings, "train").model_copy(update=untrained)
    augment = overrides.apply(protocol.augment, settings, "augment")
    try:
        buildable(config)
    except ValueError as error:
        raise UserError(f"{model} cannot be built: {error}") from error
    after = {"model": config, "train": train, "augment": augment}
    differences = overrides.differences(before, after)
    return config, train, augment, tuple(map(_short, differences))


def _short(override: str) -> str:
    """A file's sha256 is shown by its beginning."""
    name, _, content = override.partition(f"={SCHEME}")
    return f"{name}={SCHEME}{content[:10]}" if content else override


def _sampled(lists: Iterable[ListSpec], augment: AugmentConfig) -> tuple[ListSpec, ...]:
    """`lists` with their temporal views placed as `augment.view_sampling` says."""
    return tuple(
        one.model_copy(
            update={"views": one.views.model_copy(update={"sampling": augment.view_sampling})}
        )
        for one in lists
    )


def _lists(
    suites: Iterable[Suite],
    protocol: Protocol,
    datasets: Mapping[str, Dataset],
    dataset_name: str,
    llm: bool,
) -> tuple[ListSpec, ...]:
    lists = []
    for suite in (protocol.point_suite(suite, dataset_name) for suite in suites):
        data = datasets[suite.dataset]
        for name in suite.splits:
            split = data.split(name)
            labels = data.labels(split.labels)
            lists.append(
                ListSpec(
                    suite=suite.name,
                    dataset=suite.dataset,
                    split=split,
                    labels=labels,
                    llm=llm and labels.llm is not None,
                    views=suite.views,
                )
            )
    return tuple(lists)
