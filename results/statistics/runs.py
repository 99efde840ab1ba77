"""A finished run as statistics and reports see it: its method, its grid point, its scores."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from protocols.protocol import Protocol
from results.reading.location import location
from results.reading.predictions import Predictions, read_predictions
from results.reading.run_folder import RunFolder
from results.records import Result, RunKey, WeightSet
from tcclip import methods

VARIANT_TITLES = {"base": "", "llm": "LLM", "pretrained": "P"}


@dataclass(frozen=True, order=True)
class Method:
    """A model under a variant and settings."""

    model: str
    variant: str
    overrides: str = ""
    origin: str = "trained"
    protocol_version: int = 1

    @classmethod
    def of(cls, key: RunKey) -> Method:
        """The method of a run."""
        overrides = ", ".join(key.overrides)
        return cls(key.model, key.variant, overrides, key.origin, key.protocol_version)

    @property
    def settings(self) -> list[str]:
        """Those that differ from the protocol's, as `name=value`."""
        return settings_in(self.overrides)

    @property
    def kind(self) -> str:
        """What it is but for settings, e.g. `TC-CLIP (LLM) [from checkpoint 0123456789]`."""
        title = methods.shown(self.model).title
        variant = VARIANT_TITLES.get(self.variant, self.variant)
        if variant:
            title += f" ({variant})"
        if self.origin != "trained":
            title += f" [from {self.origin}]"
        return title

    @property
    def title(self) -> str:
        """The method in full, e.g. `TC-CLIP (LLM) [train.lr=1e-5]`."""
        return f"{self.kind} [{self.overrides}]" if self.overrides else self.kind


def settings_in(text: str) -> list[str]:
    """`"a=1, b=[2, 3]"` -> `["a=1", "b=[2, 3]"]`: a comma within a value separates no settings."""
    return re.split(r",\s*(?=[\w.]+=)", text) if text else []


def published_weights(protocol: Protocol, model: str) -> WeightSet:
    """The weights whose numbers papers print: ensembled, where the protocol has these of it."""
    trained = methods.shown(model).trained
    return "ensembled" if trained and protocol.ensemble_weight is not None else "raw"


class Point(NamedTuple):
    """A point of the protocol's grid, for one method."""

    trained_on: str
    shots: int | None
    base_split: int | None
    seed: int

    @classmethod
    def of(cls, key: RunKey) -> Point:
        """The grid point of a run."""
        return cls(key.dataset, key.shots, key.base_split, key.seed)


@dataclass(frozen=True)
class FinishedRun:
    """A run with a usable result, in the output folder `out`."""

    out: str
    result: Result

    @cached_property
    def method(self) -> Method:
        return Method.of(self.result.key)

    @cached_property
    def point(self) -> Point:
        return Point.of(self.result.key)

    @property
    def run_id(self) -> str:
        return self.result.run_id

    @property
    def folder(self) -> RunFolder:
        return RunFolder(location(self.out) / "runs" / self.run_id)

    def scores(
        self, suite: str, split: str, *, weights: str, checkpoint: str, complaints: list[str]
    ) -> Predictions | None:
        """The kept scores of one split, if any; a file that cannot be read adds to `complaints`."""
        try:
            return read_predictions(
                self.folder, suite, split, weights=weights, checkpoint=checkpoint
            )
        except ValueError as error:
            complaints.append(str(error))
            return None
