"""What is recorded of a checkpoint: how it was trained, and its numbers with their statistic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import protocols
from experiments.store.ledger import Ledger
from protocols.datasets import DATASETS
from results.reading.location import Location
from results.records import Measurement, Result
from results.statistics.mean_std import Axis, estimate

if TYPE_CHECKING:
    from tcclip.export.card import Number

#: Measured over several splits.
_UNITS: dict[bool, Axis] = {True: "splits", False: "single run"}


def evaluations(out: Location, digest: str) -> list[Result]:
    """The finished runs of `out` that evaluated the checkpoint with this sha256."""
    ledger = Ledger(out)
    found = ledger.finished(ledger.folders())
    return [
        result
        for run_id, one in found.items()
        if one.key.origin.split(",")[0] == f"checkpoint {digest[:10]}"
        if (result := ledger.folder(run_id).read_result()) is not None
    ]


def numbers(result: Result, ensemble: float | None) -> Iterator[Number]:
    """What the table of its protocol shows of a run, of the selected epoch, for weights that are
    ensembled with that share, or not at all; nothing if it was not measured with that share."""
    protocol = protocols.get(result.key.protocol, demo=result.key.demo)
    if ensemble not in (None, protocol.ensemble_weight):
        return
    weights = "raw" if ensemble is None else "ensembled"
    shown: dict[tuple[str, str, str], list[Measurement]] = {}
    for one in result.measurements:
        if (one.weights, one.checkpoint) == (weights, "best"):
            shown.setdefault((one.suite, one.views, one.metric), []).append(one)
    for (_, _, metric), measured in shown.items():
        if metric in protocol.statistic.metrics:
            yield _number(result, measured, protocol.statistic.ddof)


def _number(result: Result, measured: Sequence[Measurement], ddof: int) -> Number:
    from tcclip.export.card import Number

    first = measured[0]
    found = estimate([one.value for one in measured], axis=_UNITS[len(measured) > 1], ddof=ddof)
    return Number(
        dataset=first.dataset,
        title=title(result, first.dataset),
        splits=tuple(one.split for one in measured),
        metric=first.metric.replace("top", "top-"),
        value=found.mean,
        std=found.std,
        ddof=found.ddof,
        n=found.n,
        units=found.axis,
        videos=sum(one.videos for one in measured),
        views=first.views,
        source=result.run_id,
    )


def title(result: Result, dataset: str) -> str:
    """A data set's name as one writes it."""
    known = DATASETS[dataset].title if dataset in DATASETS else dataset
    return result.provenance.titles.get(dataset, known)


def training(result: Result, ensemble: float | None) -> dict[str, str]:
    """How a run was trained, by heading."""
    key, made = result.key, result.provenance
    protocol = protocols.get(key.protocol, demo=key.demo)
    on = [title(result, key.dataset)]
    on += [f"{key.shots} videos a class"] if key.shots is not None else []
    on += [f"base split {key.base_split}"] if key.base_split is not None else []
    on += [f"{key.variant} variant"] if key.variant != "base" else []
    chosen = result.selection
    epoch = f"{chosen.best_epoch} of {chosen.last_epoch}, the best in validation"
    if chosen.best_value is not None:
        epoch += f" (top-1 {chosen.best_value:.2f} %)"
    facts = {
        "Protocol": f"{protocol.title_on([key.dataset])}, version {key.protocol_version}",
        "Trained on": ", ".join(on),
        "Seed": str(key.seed),
        "Epoch": epoch,
        "Other settings than the protocol's": ", ".join(key.overrides),
        "Computed": f"{made.precision} on {made.world_size} x {made.device}, "
        f"finished {made.finished[:10]}",
        "Code": made.git_commit or "",
        "Run": result.run_id,
        "Weights": _weights(ensemble),
        "Data warnings": "; ".join(made.data_warnings),
    }
    return {name: text for name, text in facts.items() if text}


def _weights(ensemble: float | None) -> str:
    if ensemble is None:
        return "as trained"
    return f"{ensemble:g} of the trained ones, the rest the CLIP weights it started from"
