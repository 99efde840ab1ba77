"""From what was asked for to the runs of the grid (`RunSpec`s), parents before children."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import protocols
from experiments import overrides
from experiments.errors import UserError
from experiments.spec import ListSpec, RunSpec
from protocols.datasets import dataset
from protocols.protocol import Protocol, Suite
from results.records import RunKey
from tcclip.config import ModelConfig, Settings

MODELS = ("tc_clip", "vifi_clip", "clip")
#: Text length of LLM-rephrased class names (SPEC 5): CLIP's whole context.
LLM_TEXT_LENGTH = 77


@dataclass(frozen=True)
class Grid:
    """What was asked for; None on an axis means the protocol's own values.

    `points` are shots for few_shot, base splits for base_to_novel.
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


def expand(grid: Grid) -> list[RunSpec]:
    """The runs of `grid`, each once, in the order data set, model, variant, point, seed.

    A run that starts from another's weights comes after it, and brings it along.
    UserError for a name the protocol does not know.
    """
    try:
        protocol = protocols.get(grid.protocol, demo=grid.demo)
    except ValueError as error:
        raise UserError(str(error)) from error
    datasets = chosen("data set", grid.datasets, protocol.datasets, protocol)
    models = chosen("model", grid.models, MODELS, protocol, default=protocol.models)
    variants = chosen("variant", grid.variants, protocol.variants, protocol)
    specs: dict[str, RunSpec] = {}
    for name, model, variant, point, seed in itertools.product(
        datasets, models, variants, _points(grid, protocol), grid.seeds or protocol.seeds
    ):
        if (variant, name) in protocol.undefined:
            continue
        if model == "clip" and variant == "pretrained":
            raise UserError("model clip is never trained, so it has no pretrained variant")
        spec = resolve(protocol, name, model, variant, point, seed, grid.settings)
        if spec.parent is not None:
            parent = _parent(protocol, model, seed, grid.settings)
            specs.setdefault(parent.run_id, parent)
        specs.setdefault(spec.run_id, spec)
    return list(specs.values())


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


def resolve(
    protocol: Protocol,
    dataset_name: str,
    model: str,
    variant: str,
    point: int | None,
    seed: int,
    settings: dict[str, Any],
) -> RunSpec:
    """One point of the grid with every hyper-parameter in place."""
    # SSv2 has no LLM names: its LLM row repeats the base row, so it is the same run (SPEC 5).
    llm = variant == "llm" and _has_llm(protocol, dataset_name, point)
    variant = "base" if variant == "llm" and not llm else variant
    model_config = ModelConfig.model_validate({"name": model, **protocol.model})
    if llm:
        model_config = model_config.model_copy(update={"text_length": LLM_TEXT_LENGTH})
    train = protocol.train
    if model == "clip":  # evaluated as it comes, never trained: --set train.epochs is not for it
        train = train.model_copy(update={"epochs": 0, "warmup_epochs": 0})
    roots: dict[str, Settings] = {
        "model": model_config, "train": train, "augment": protocol.augment,
    }  # fmt: skip
    overrides.check_names(settings, roots)
    model_config = overrides.apply(model_config, settings, "model")
    augment = overrides.apply(protocol.augment, settings, "augment")
    if model != "clip":
        train = overrides.apply(train, settings, "train")
    changed = overrides.differences(
        roots, {"model": model_config, "train": train, "augment": augment}
    )
    train_split = protocol.point_split(dataset_name, point)
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
    labels = dataset(dataset_name).labels(train_split.labels)
    return RunSpec(
        key=key,
        model=model_config,
        train=train,
        augment=augment,
        train_list=ListSpec(
            suite="train", dataset=dataset_name, split=train_split, labels=labels, llm=llm
        ),
        flip=dataset(dataset_name).flip,
        validation=_lists([protocol.validation], protocol, dataset_name, llm),
        suites=_lists(protocol.suites, protocol, dataset_name, llm),
        ensemble_weight=None if model == "clip" else protocol.ensemble_weight,
        selection=protocol.selection if model != "clip" else "untrained",
        parent=_parent(protocol, model, seed, settings).run_id if variant == "pretrained" else None,
    )


def _has_llm(protocol: Protocol, dataset_name: str, point: int | None) -> bool:
    split = protocol.point_split(dataset_name, point)
    return dataset(dataset_name).labels(split.labels).llm is not None


def _parent(protocol: Protocol, model: str, seed: int, settings: dict[str, Any]) -> RunSpec:
    """The zero-shot base run of the same model and seed (SPEC 5, variant P).

    It takes the model's settings, which must fit its children's; training settings are its own.
    """
    zero_shot = protocols.get("zero_shot", demo=protocol.demo)
    shared = {name: value for name, value in settings.items() if name.startswith("model.")}
    return resolve(zero_shot, zero_shot.datasets[0], model, "base", None, seed, shared)


def _lists(
    suites: Iterable[Suite], protocol: Protocol, dataset_name: str, llm: bool
) -> tuple[ListSpec, ...]:
    lists = []
    for suite in (protocol.point_suite(suite, dataset_name) for suite in suites):
        data = dataset(suite.dataset)
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
