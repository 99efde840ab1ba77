"""The published numbers (SPEC 7), validated, each with its statistic, axis and source."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from results.records import Record
from results.statistics.columns import Column
from results.statistics.runs import Method
from tcclip.config import ModelConfig
from tcclip.text_files import parse_yaml

FILE = Path(__file__).with_name("numbers.yaml")


class PublishedNumber(Record):
    """One printed figure, in percent. `std` is None where none was printed, `ddof`, `n`, `frames`,
    `views` and `ensembled` where they are not stated.

    `model` is ours that the row is compared with; None for methods this project does not train.
    `differs`: why it cannot be compared with others, beside its frames and backbone. `remark`: what
    else to know of it.
    """

    method: str
    model: str | None
    variant: Literal["base", "llm", "pretrained"]
    backbone: str
    frames: int | None
    views: str | None
    protocol: Literal["zero_shot", "few_shot", "base_to_novel", "fully_supervised"]
    dataset: str
    part: str
    metric: Literal["top1", "top5"]
    value: float = Field(ge=0, le=100)
    std: float | None = Field(default=None, ge=0)
    statistic: Literal["mean", "value", "harmonic mean of the means"]
    axis: Literal["splits", "base splits", "single run", "not stated"]
    n: int | None = Field(gt=0)
    ddof: int | None = None
    selection: str
    ensembled: bool | None
    source: str
    differs: tuple[str, ...] = ()
    remark: str | None = None

    @property
    def row(self) -> tuple[str, ...]:
        """Which row of the table it is in."""
        return self.method, self.variant, str(self.ensembled), str(self.views), self.source

    @property
    def incomparable(self) -> tuple[str, ...]:
        """Why it cannot be compared with the protocols' own numbers; what is not stated is not
        held against it."""
        usual, found = ModelConfig(), list(self.differs)
        if self.backbone != usual.backbone.replace("B-", "B/"):
            found.append(self.backbone)
        if self.frames not in (None, usual.num_frames):
            found.append(f"{self.frames} frames, {usual.num_frames} here")
        return tuple(found)

    @property
    def setting(self) -> str:
        """How it was made, as far as that is stated."""
        frames = "frames not stated" if self.frames is None else f"{self.frames} frames"
        views = "views not stated" if self.views is None else f"{self.views} views"
        return f"{self.backbone}, {frames}, {views}"


@cache
def published() -> tuple[PublishedNumber, ...]:
    """Every published figure, in the file's order."""
    entries, _ = parse_yaml(FILE.read_text(encoding="utf-8"), FILE.name)
    return tuple(number for entry in entries for number in _expand(entry))


def _expand(entry: dict[str, Any]) -> list[PublishedNumber]:
    """One row of a published table -> its figures; see the head of numbers.yaml."""
    shared = {name: value for name, value in entry.items() if name not in ("parts", "numbers")}
    found = []
    for dataset, values in entry["numbers"].items():
        for part, printed in zip(entry["parts"], values, strict=True):
            value, std = printed if isinstance(printed, list) else (printed, None)
            statistic = "harmonic mean of the means" if part == "HM" else shared["statistic"]
            found.append(
                PublishedNumber(
                    **(shared | {"statistic": statistic}), dataset=dataset, part=part,
                    metric="top5" if part == "top5" else "top1", value=value, std=std,
                )
            )  # fmt: skip
    return found


def matching_number(
    protocol: str, method: Method, column: Column, weights: str, checkpoint: str
) -> PublishedNumber | None:
    """The published figure one of ours is compared with: same weights (raw where the row does not
    say), best epoch, plain settings.

    None if there is none.
    """
    if method.overrides or checkpoint != "best":
        return None
    wanted = (protocol, method.model, method.variant, weights == "ensembled", *column.key)
    for one in published():
        mixed = bool(one.ensembled)
        if (one.protocol, one.model, one.variant, mixed, one.dataset, one.part) == wanted:
            return one
    return None


def published_rows(protocol: str) -> list[list[PublishedNumber]]:
    """The figures of `protocol`, row by row, in the file's order."""
    rows: dict[tuple[str, ...], list[PublishedNumber]] = {}
    for one in published():
        if one.protocol == protocol:
            rows.setdefault(one.row, []).append(one)
    return list(rows.values())
