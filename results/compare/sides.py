"""What is compared: a side is a method's finished runs, and their kept scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from protocols.protocol import Protocol, Variant
from results.reading.collect import Collected, collect
from results.reading.location import location
from results.reading.predictions import read
from results.reading.run_folder import RunFolder
from results.records import Checkpoint, WeightSet
from results.report.report import method_title
from results.statistics.aggregate import METHOD_COLUMNS, Method
from results.statistics.bootstrap import Scored
from results.statistics.columns import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODELS = ("tc_clip", "vifi_clip", "clip")


@dataclass(frozen=True)
class Side:
    """One side of a comparison: where its runs are and which of them it takes."""

    name: str
    outs: tuple[str, ...]
    model: str = "tc_clip"
    variant: str = "base"
    overrides: str = ""
    weights: str = "raw"
    checkpoint: str = "best"

    @property
    def title(self) -> str:
        title = method_title(Method(self.model, self.variant, self.overrides))
        return f"{title}, {self.weights}, {self.checkpoint} epoch"


def parse_side(text: str, protocol: Protocol, outs: Sequence[Path | str]) -> Side:
    """A side from `PART:PART:...`, parts in any order, each at most once.

    Without settings it is the runs without any, or, if there are none, those with the only
    settings there are.

    A part is a model (tc_clip), a variant (llm), weights (raw, ensembled), an epoch (best, last),
    settings (`train.lr=1e-5,...`) or an output folder; what is not said is tc_clip, base, the
    protocol's published weights, best, no settings, `outs`. ValueError for a part that is none
    of these or is said twice.
    """
    found: dict[str, str] = {}
    # The colon of an address (s3://...) separates nothing.
    for part in re.split(r":(?!//)", text):
        kind = _kind(part, text)
        if kind in found:
            raise ValueError(f"{text!r}: {kind} given twice, as {found[kind]!r} and {part!r}")
        found[kind] = part
    model = found.get("model", "tc_clip")
    ensembled = protocol.ensemble_weight is not None and model != "clip"
    return Side(
        name=text,
        outs=(found["folder"],) if "folder" in found else tuple(map(str, outs)),
        model=model,
        variant=found.get("variant", "base"),
        # A comma within a value, as in [6, 12], separates no settings.
        overrides=", ".join(sorted(re.split(r",\s*(?=[\w.]+=)", found.get("settings", "")))),
        weights=found.get("weights", "ensembled" if ensembled else "raw"),
        checkpoint=found.get("epoch", "best"),
    )


def _kind(part: str, text: str) -> str:
    names = {
        "model": MODELS, "variant": get_args(Variant), "weights": get_args(WeightSet),
        "epoch": get_args(Checkpoint),
    }  # fmt: skip
    for kind, known in names.items():
        if part in known:
            return kind
    if "://" in part or Path(part).is_dir():
        return "folder"
    if "=" in part:
        return "settings"
    allowed = "; ".join(f"{kind}: {', '.join(known)}" for kind, known in names.items())
    raise ValueError(f"{text!r}: {part!r} is no folder and none of {allowed}, name=value")


class Scores:
    """The kept scores of one side, read when asked for."""

    def __init__(self, side: Side, protocol: Protocol) -> None:
        self.protocol = protocol
        collected = collect(side.outs, protocol.name, protocol.demo)
        measured = collected.table[["dataset", "split", "classes"]]
        #: The splits these runs were tested on, users' own data sets' included.
        self.measured = measured.drop_duplicates().astype({"dataset": str, "split": str})
        self.side = _with_only_settings(side, collected)
        self._runs = _runs(collected, self.side)

    def of(self, column: Column, complaints: list[str]) -> dict[int, dict[str, Outcomes]]:
        """seed -> unit -> outcomes by video, for the seeds that have every unit of `column`."""
        found: dict[int, dict[str, Outcomes]] = {}
        for seed, runs in sorted(self._runs.get((column.trained_on, column.shots), {}).items()):
            units, lacking = self._units(column, runs, complaints)
            if lacking:
                complaints.append(
                    f"{self.side.name}: {column.title} {column.part_title}: seed {seed} left out, "
                    f"no kept scores of {', '.join(lacking)}"
                )
            else:
                found[seed] = units
        return found

    def _units(
        self, column: Column, runs: dict[int | None, tuple[str, str]], complaints: list[str]
    ) -> tuple[dict[str, Outcomes], list[str]]:
        units: dict[str, Outcomes] = {}
        lacking = []
        over_runs = self.protocol.statistic.axis == "base_splits"
        for unit in column.units:
            run = runs.get(int(unit[1:]) if over_runs else None)
            split = _split(self.protocol, column) if over_runs else unit
            one = self._read(run, column, split, complaints) if run else None
            if one is None:
                lacking.append(unit)
            else:
                units[unit] = one
        return units, lacking

    def _read(
        self, run: tuple[str, str], column: Column, split: str, complaints: list[str]
    ) -> Outcomes | None:
        out, run_id = run
        try:
            found = read(
                RunFolder(location(out) / "runs" / run_id), column.suite, split,
                weights=self.side.weights, checkpoint=self.side.checkpoint,
            )  # fmt: skip
        except ValueError as error:
            complaints.append(str(error))
            return None
        if found is None:
            return None
        right = found.correct(5 if column.metric == "top5" else 1)
        return Outcomes(dict(zip(found.videos, right.tolist(), strict=True)))


def _with_only_settings(side: Side, collected: Collected) -> Side:
    table = collected.table.drop_duplicates("run_id")
    of_side = (table["model"] == side.model) & (table["variant"] == side.variant)
    settings = set(table[of_side]["overrides"].tolist())
    if side.overrides or "" in settings or len(settings) != 1:
        return side
    return replace(side, overrides=settings.pop())


@dataclass(frozen=True)
class Outcomes:
    """Video -> whether it was classified right."""

    right: dict[str, bool]


def _split(protocol: Protocol, column: Column) -> str:
    """The split a suite of base-to-novel is scored on: one, the base splits are the runs'."""
    suites = (protocol.point_suite(suite, column.trained_on) for suite in protocol.suites)
    (split,) = next(suite.splits for suite in suites if suite.name == column.suite)
    return split


_Runs = dict[tuple[str, int | None], dict[int, dict[int | None, tuple[str, str]]]]


def _runs(collected: Collected, side: Side) -> _Runs:
    """(trained on, shots) -> seed -> base split -> (output folder, run_id) of the side's runs."""
    table = collected.table.drop_duplicates("run_id").astype(
        {"shots": object, "base_split": object}
    )
    names = [*METHOD_COLUMNS, "trained_on", "shots", "base_split", "seed", "out", "run_id"]
    found: _Runs = {}
    for row in zip(*(table[name].tolist() for name in names), strict=True):
        if (row[0], row[1], row[2]) != (side.model, side.variant, side.overrides):
            continue
        shots, split = (value if isinstance(value, int) else None for value in row[6:8])
        seeds = found.setdefault((row[5], shots), {})
        seeds.setdefault(row[8], {})[split] = (row[9], row[10])
    return found


def paired(
    a: dict[int, dict[str, Outcomes]], b: dict[int, dict[str, Outcomes]], units: Sequence[str]
) -> tuple[Scored, Scored, int]:
    """Both sides as arrays over the videos that every model of both scored, and how many are not.

    A video is known by its path: the same path in two units is the same video.
    """
    import numpy as np

    common = {
        unit: set.intersection(*(set(s[unit].right) for s in (*a.values(), *b.values())))
        for unit in units
    }
    everything = {
        (unit, video)
        for s in (*a.values(), *b.values())
        for unit in units
        for video in s[unit].right
    }
    videos = sorted(set().union(*common.values()))
    there = np.array([[video in common[unit] for video in videos] for unit in units], np.float64)
    left_out = len(everything) - int(there.sum())
    return _scored(a, units, videos, there), _scored(b, units, videos, there), left_out


def _scored(
    side: dict[int, dict[str, Outcomes]],
    units: Sequence[str],
    videos: Sequence[str],
    there: NDArray[np.float64],
) -> Scored:
    import numpy as np

    right = np.array(
        [
            [[one[unit].right.get(video, False) for video in videos] for unit in units]
            for one in side.values()
        ],
        np.float64,
    )
    return Scored(tuple(side), right * there[None], there)
