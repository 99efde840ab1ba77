"""What is compared: a selection of finished runs, and which videos their models classify right."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pandas as pd

from protocols.protocol import Protocol, Variant
from results.reading.collect import collect
from results.reading.location import folder_names, location
from results.reading.run_filter import RunFilter
from results.reading.run_folder import RunFolder
from results.records import Checkpoint, WeightSet
from results.statistics.bootstrap import Scored
from results.statistics.columns import Column
from results.statistics.runs import FinishedRun, Method, published_weights, settings_in
from tcclip import methods

_PARTS = {
    "variant": get_args(Variant), "weights": get_args(WeightSet), "epoch": get_args(Checkpoint),
}  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """One method's runs: where they are and which of them are meant. `name`: as it was given;
    `row`: the name of their row."""

    name: str
    outs: tuple[str, ...]
    model: str = "tc_clip"
    variant: str = "base"
    overrides: str = ""
    weights: str = "raw"
    checkpoint: str = "best"
    row: str | None = None

    @property
    def title(self) -> str:
        method = Method(self.model, self.variant, self.overrides)
        return f"{self.row or method.title}, {self.weights}, {self.checkpoint} epoch"


def parse_selection(text: str, protocol: Protocol, outs: Sequence[Path | str]) -> Selection:
    """A selection from `PART:PART:...`, parts in any order, each at most once.

    All of `text` may be the name of a row. Else a part is a model (tc_clip), a variant (llm),
    weights (raw, ensembled), an epoch (best, last), settings (`train.lr=1e-5,...`) or an output
    folder; what is not said is tc_clip, base, the protocol's published weights, best, no settings,
    `outs`. ValueError for a part that is none of these or is said twice.
    """
    runs = [location(out) / "runs" for out in outs]
    folders = [RunFolder(one / run_id) for one in runs for run_id in folder_names(one)]
    if any(folder.read_name() == text for folder in folders):
        return Selection(text, tuple(map(str, outs)), row=text)
    found: dict[str, str] = {}
    # The colon of an address (s3://...) separates nothing.
    for part in re.split(r":(?!//)", text):
        kind = _kind(part, text)
        if kind in found:
            raise ValueError(f"{text!r}: {kind} given twice, as {found[kind]!r} and {part!r}")
        found[kind] = part
    model = found.get("model", "tc_clip")
    return Selection(
        name=text,
        outs=(found["folder"],) if "folder" in found else tuple(map(str, outs)),
        model=model,
        variant=found.get("variant", "base"),
        overrides=", ".join(sorted(settings_in(found.get("settings", "")))),
        weights=found.get("weights", published_weights(protocol, model)),
        checkpoint=found.get("epoch", "best"),
    )


def _kind(part: str, text: str) -> str:
    parts = {"model": methods.names(), **_PARTS}
    for kind, known in parts.items():
        if part in known:
            return kind
    if "://" in part or Path(part).is_dir():
        return "folder"
    if "=" in part:
        return "settings"
    allowed = "; ".join(f"{kind}: {', '.join(known)}" for kind, known in parts.items())
    raise ValueError(f"{text!r}: {part!r} is no folder and none of {allowed}, name=value")


def _of_row(selection: Selection, protocol: Protocol, meant: Collection[Method]) -> Selection:
    """A selection by name, of what the row with this name is. ValueError if several have it."""
    if len(meant) > 1:
        titles = ", ".join(sorted(method.title for method in meant))
        raise ValueError(
            f"{selection.name!r} is the name of several rows: {titles}; choose among them with "
            "--models, --variants or --run, or give them names of their own"
        )
    for method in meant:
        selection = replace(
            selection, model=method.model, variant=method.variant, overrides=method.overrides,
            weights=published_weights(protocol, method.model),
        )  # fmt: skip
    return selection


class SelectedRuns:
    """The runs of a selection; their kept scores are read when asked for.

    A selection without settings takes the runs without any, or, if there are none, those with the
    only settings there are. `complaints`: results that cannot be read, and settings to choose from.
    """

    def __init__(self, selection: Selection, protocol: Protocol, meant: RunFilter) -> None:
        collected = collect(selection.outs, protocol.name, protocol.demo, meant=meant)
        #: Every run under the folders.
        self.collected = collected
        finished = [FinishedRun(*one) for one in collected.finished]
        if selection.row is not None:
            finished = [r for r in finished if collected.names.get(r.run_id) == selection.row]
            selection = _of_row(selection, protocol, {run.method for run in finished})
        runs = [
            run
            for run in finished
            if (run.method.model, run.method.variant) == (selection.model, selection.variant)
        ]
        self.complaints = [
            f"{one.file} in {one.out}: {one.message}"
            for one in collected.problems
            if one.kind in ("broken", "schema", "conflict")
        ]
        settings = {run.method.overrides for run in runs}
        if len(settings) > 1 and selection.overrides not in settings:
            *others, last = sorted(settings)
            self.complaints.append(
                f"{selection.name}: its runs have the settings {'; '.join(others)} or {last}; "
                f"choose, for example {selection.name}:{last.replace(', ', ',')}"
            )
        if not selection.overrides and len(settings) == 1:
            selection = replace(selection, overrides=settings.pop())
        self.selection = selection
        self.runs = [run for run in runs if run.method.overrides == selection.overrides]

    def outcomes(self, column: Column, complaints: list[str]) -> pd.DataFrame:
        """Whether each video is classified right: a row a (unit, video), a column a seed.

        Of the seeds that have every unit of `column`; a missing value where the seed's model has
        not scored the video. What is left out is named in `complaints`.
        """
        by_seed: dict[int, dict[int | None, FinishedRun]] = defaultdict(dict)
        for run in self.runs:
            if (run.point.trained_on, run.point.shots) == (column.trained_on, column.shots):
                by_seed[run.point.seed][run.point.base_split] = run
        found = {}
        for seed, runs in sorted(by_seed.items()):
            units = {
                unit: self._right(runs.get(column.base_split(unit)), column, unit, complaints)
                for unit in column.units
            }
            missing = [unit for unit, right in units.items() if right is None]
            if missing:
                complaints.append(
                    f"{self.selection.name}: {column.title} {column.part_title}: seed {seed} left "
                    f"out, no kept scores of {', '.join(missing)}"
                )
            else:
                found[seed] = pd.concat(units, names=["unit", "video"])
        return pd.DataFrame(found)

    def _right(
        self, run: FinishedRun | None, column: Column, unit: str, complaints: list[str]
    ) -> pd.Series[bool] | None:
        """Video -> whether it is classified right; None without kept scores."""
        if run is None:
            return None
        kept = run.scores(
            column.suite, column.test_split(unit), weights=self.selection.weights,
            checkpoint=self.selection.checkpoint, complaints=complaints,
        )  # fmt: skip
        if kept is None:
            return None
        return pd.Series(kept.correct(5 if column.metric == "top5" else 1), list(kept.videos))


def paired(a: pd.DataFrame, b: pd.DataFrame, units: Sequence[str]) -> tuple[Scored, Scored, int]:
    """Both methods' outcomes over the videos that every model of both scored; how many are not.

    A video is known by its path: the same path in two units is the same video.
    """
    joined = pd.concat({"a": a, "b": b}, axis=1)
    complete = joined.dropna()
    videos = sorted(set(complete.index.get_level_values("video")))
    places = pd.MultiIndex.from_product([units, videos])
    shape = (len(units), len(videos))
    there = places.isin(complete.index).astype(float).reshape(shape)

    def scored(name: str) -> Scored:
        right = complete[name].reindex(places, fill_value=False).to_numpy(float)
        return Scored(tuple(complete[name].columns), right.T.reshape(-1, *shape), there)

    return scored("a"), scored("b"), len(joined) - len(complete)
