"""What a check of a data set found: its schema, and where the last one is kept."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from experiments.datasets.paths import DataPaths
from tcclip.config import FrozenModel
from tcclip.text_files import TEXT_BYTES, read_regular

#: What of a check goes into a run's provenance.
COUNTS = (
    *("listed", "found", "missing", "substituted", "decoded", "undecodable", "damaged"),
    *("too_short", "leaked", "leaked_copies"),
)


class SplitCheck(FrozenModel):
    """One list. `problem`: why it cannot be used at all, e.g. an id out of range and where.

    `listed` and `missing` count lines; `repeated`: lines whose video was listed before.
    """

    split: str
    listed: int = 0
    expected: int | None = None
    missing: int = 0
    repeated: int = 0
    problem: str | None = None


class LabelCheck(FrozenModel):
    """The LLM-rephrased names of one label set. `problem`: why they cannot be used at all.

    `elsewhere`: classes whose LLM name is that of another id. They can be used: the published
    HMDB-51 names are so, and are used as published.
    """

    labels: str
    file: str
    problem: str | None = None
    elsewhere: tuple[str, ...] = ()


class DatasetCheck(FrozenModel):
    """One data set: its lists, and the union of their videos.

    `missing`, `substituted` (the file is not at the listed path), `undecodable`, `too_short` and
    `leaked` (in a training and a test list of the same setting) and `leaked_copies` (a byte copy
    is) are counts; `examples` names some of each. `decoded` of `listed` were decoded. `labels`: the
    LLM-rephrased class names, where there are any. `warnings`: what is odd, but can be used.
    `folder`: the videos'; `lists`: sha256 of a user's own files.
    """

    dataset: str
    folder: str = ""
    lists: dict[str, str] = Field(default_factory=dict)
    splits: tuple[SplitCheck, ...]
    listed: int
    found: int
    missing: int
    substituted: int = 0
    decoded: int
    undecodable: int
    damaged: int
    too_short: int
    leaked: int
    leaked_copies: int = 0
    readers: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    labels: tuple[LabelCheck, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether a protocol can run: lists and names usable, videos there, none unreadable.

        It can with short videos: their frames are repeated (SPEC 3).
        """
        usable = all(split.problem is None for split in self.splits)
        named = all(labels.problem is None for labels in self.labels)
        return usable and named and not (self.missing or self.undecodable)


def check_file(data_paths: DataPaths, name: str) -> Path:
    """Where the last check of data set `name` is kept."""
    return data_paths.cache / "checks" / f"{name}.json"


def last_check(data_paths: DataPaths, name: str) -> dict[str, int] | None:
    """The counts of the last check of data set `name`; None without one that can be read, or of
    other videos or lists than those of now, as of another data set of that name."""
    try:
        data = read_regular(check_file(data_paths, name), TEXT_BYTES)
        check = DatasetCheck.model_validate_json(data)
    except (OSError, ValidationError):
        return None
    dataset = data_paths.dataset(name)
    if (check.folder, check.lists) != (str(data_paths.video_folder(dataset)), dataset.digests):
        return None
    return {count: getattr(check, count) for count in COUNTS}
