"""`tcclip explain-protocol`: what a protocol trains, tests, selects and averages, from its data."""

from __future__ import annotations

import textwrap

import protocols
from experiments.monitor.table import print_json
from protocols.protocol import Protocol, Suite
from results.printing import show
from tcclip import methods
from tcclip.config import Views

#: Columns of the text, whatever the terminal.
WIDTH = 100


def print_protocol(name: str, demo: bool, format: str) -> None:
    """Print a protocol as text, or all its data as JSON. ValueError for an unknown one."""
    protocol = protocols.get(name, demo=demo)
    if format == "json":
        print_json([protocol.model_dump(mode="json")])
        return
    title = f"{protocol.name}, version {protocol.version}: {protocol.title}"
    facts = {
        "trained on": _trained_on(protocol),
        "models": _models(protocol),
        "training": _training(protocol),
        "clips": _clips(protocol),
        "selected": _selected(protocol),
        "tested on": _tested(protocol),
        "weights": _weights(protocol),
        "a number": _number(protocol),
        "not defined": ", ".join(f"{variant} on {data}" for variant, data in protocol.undefined),
        "compute it": f"tcclip sweep {name}{' --demo' * demo}",
    }
    facts = {name: text for name, text in facts.items() if text}
    if format == "md":
        lines = [f"**{title}**", "", *(f"- {name}: {text}" for name, text in facts.items())]
    else:
        lines = [title]
        for name, text in facts.items():
            indent = " " * 13
            lines.append(
                textwrap.fill(text, WIDTH, initial_indent=f"{name:<13}", subsequent_indent=indent)
            )
    show("\n".join(lines), format)


def _trained_on(one: Protocol) -> str:
    axis = {"shots": "shots", "base_split": "base split"}.get(one.axis or "")
    text = f"{', '.join(one.datasets)}: the list {one.train_split}"
    if axis is not None:
        text += f" ({axis} {', '.join(map(str, one.axis_values))}), a run each"
    return text


def _models(one: Protocol) -> str:
    seeds = f"seed{'s' * (len(one.seeds) > 1)} {', '.join(map(str, one.seeds))}"
    return f"{', '.join(one.models)}; variants {', '.join(one.variants)}; {seeds}"


def _training(one: Protocol) -> str:
    train, mixed = one.train, "not mixed"
    if train.mix.probability:
        mixed = f"mixed (CutMix, Mixup) with probability {train.mix.probability:g}"
    return (
        f"{train.epochs} epochs, {train.warmup_epochs:g} of them warm-up, from "
        f"{train.clip_weights} CLIP weights; AdamW, learning rate {train.lr:g} to "
        f"{train.lr_min:g} (cosine), {train.global_batch} videos a step, {train.precision}, {mixed}"
    )


def _clips(one: Protocol) -> str:
    model = methods.settings(one.model)
    size = one.augment.crop
    return (
        f"{model.num_frames} frames of {size} x {size} pixels, from a short side of "
        f"{one.augment.resize}; {model.backbone}"
    )


def _selected(one: Protocol) -> str:
    last, every = one.train.epochs, one.train.validate_every
    epochs = sorted({*range(1, last + 1, every), last})
    when = "" if every == 1 else f" (of {', '.join(map(str, epochs))})"
    lists, views = _lists((one.validation,), one), _views(one.validation.views)
    return f"the epoch{when} with the best top-1 on {lists} ({views}); of equal ones the first"


def _tested(one: Protocol) -> str:
    views = dict.fromkeys(_views(suite.views) for suite in one.suites)
    return f"{_lists(one.suites, one)} ({', '.join(views)})"


def _lists(suites: tuple[Suite, ...], one: Protocol) -> str:
    """`hmdb51 val1, val2; ucf101 val1`: with a slash between those of several trained models."""
    texts = []
    for suite in suites:
        filled = [one.point_suite(suite, name) for name in one.datasets]
        texts.append(
            " / ".join(dict.fromkeys(f"{each.dataset} {', '.join(each.splits)}" for each in filled))
        )
    return "; ".join(texts)


def _views(views: Views) -> str:
    if views.clips * views.crops == 1:
        return "1 view a video"
    crops = f"{views.crops} crop{'s' * (views.crops > 1)}"
    return f"{views.clips} clips x {crops} a video"


def _weights(one: Protocol) -> str:
    share = one.ensemble_weight
    if share is None:
        return "as trained"
    return f"as trained; and ensembled: {share:g} of them + {1 - share:g} of CLIP's"


def _number(one: Protocol) -> str:
    metrics = ", ".join(one.statistic.metrics)
    axis, ddof = one.statistic.axis, one.statistic.ddof
    if axis == "none":
        return f"{metrics} of a run; over seeds mean and std where there are several"
    over = {"splits": "the test lists of a model", "base_splits": "runs on the base splits"}[axis]
    return f"{metrics}: the mean over {over}, and its std ({'sample' if ddof else 'population'}'s)"
