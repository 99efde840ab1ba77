"""What a run leaves behind: the schema of `result.json` and `failure.json`.

`experiments` writes these, `results` reads them. A field's meaning never changes within a
`schema_version`; a reader refuses versions it does not know, by name.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 1

WeightSet = Literal["raw", "ensembled"]
Checkpoint = Literal["best", "last"]


class Record(BaseModel):
    """Base of all records: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RunKey(Record):
    """The point of the grid a run stands for. `dataset` is what it was trained on."""

    protocol: str
    protocol_version: int
    dataset: str
    model: str
    variant: str = "base"
    shots: int | None = None
    base_split: int | None = None
    seed: int
    demo: bool = False
    #: Settings that differ from the protocol's own, as `name=value`, sorted. Part of the identity.
    overrides: tuple[str, ...] = ()
    #: "trained" by this run, or "checkpoint SHA256": given weights, evaluated only.
    origin: str = "trained"


class Measurement(Record):
    """One number: one metric of one split, for one view mode, weight set and checkpoint."""

    suite: str
    dataset: str
    split: str
    classes: int = Field(gt=0)
    views: str
    weights: WeightSet
    checkpoint: Checkpoint
    metric: Literal["top1", "top5"]
    #: Percent of `videos`, 0-100. An unreadable video counts as wrong.
    value: float = Field(ge=0, le=100)
    videos: int = Field(gt=0)
    unreadable: int = Field(default=0, ge=0)


class Selection(Record):
    """How the reported epoch was chosen (SPEC 4): its rule's name and what it saw."""

    rule: str
    best_epoch: int
    best_value: float | None
    last_epoch: int
    last_value: float | None


class Provenance(Record):
    """Everything that could explain a different number."""

    git_commit: str | None
    git_dirty: bool | None
    packages: dict[str, str]
    python: str
    platform: str
    device: str
    world_size: int
    micro_batch: int
    global_batch: int
    precision: str
    #: The run whose training this one went on with, and for how many epochs that was trained, on a
    #: schedule of these. Left out of results of runs that began with their own first epoch.
    extends: str | None = Field(default=None, exclude_if=lambda run_id: run_id is None)
    extended_epochs: int | None = Field(default=None, exclude_if=lambda epochs: epochs is None)
    #: Whether a GPU was asked for deterministic algorithms. Left out on a CPU, which has no others,
    #: and in older results.
    deterministic: bool | None = Field(default=None, exclude_if=lambda asked: asked is None)
    started: str
    finished: str
    #: Of the last attempt, as `started` and `finished` are.
    wall_seconds: float
    #: Of all attempts, without what one did after its last checkpoint; 0 on a CPU.
    gpu_hours: float
    #: The last attempt's host (of rank 0) and training clips a second, and the number of attempts.
    #: None in results that are older than these fields, and where nothing was trained.
    host: str | None = None
    attempts: int | None = None
    clips_per_second: float | None = None
    #: How many processes loaded videos for each worker, the share of the last attempt's time that
    #: rank 0 waited for data, and what to do about it where that is much. None in older results.
    loader_workers: int | None = None
    waited_for_data: float | None = Field(default=None, ge=0, le=1)
    waiting_advice: str | None = Field(default=None, exclude_if=lambda text: text is None)
    #: sha256 by name: annotation lists, label files, starting weights.
    digests: dict[str, str]
    #: Way of reading -> test videos read with it.
    readers: dict[str, int] = {}
    #: Views of test videos, validation's too, that the last attempt decoded and that it took from
    #: the cache; the same of its training clips. None in older results.
    test_views_decoded: int | None = None
    test_views_cached: int | None = None
    train_clips_decoded: int | None = None
    train_clips_cached: int | None = None
    #: Cached videos that were not as they had been written, and were decoded again.
    cache_damaged: int = Field(default=0, exclude_if=lambda number: not number)
    #: Training clips, over all epochs, that stood in for a video that could not be read.
    clips_replaced: int = 0
    videos_expected: int
    videos_missing: int = 0
    videos_unreadable: int = 0
    unreadable: tuple[str, ...] = ()
    #: Data set of a user's own -> the folder its videos were read from, without links.
    video_folders: dict[str, str] = Field(default={}, exclude_if=lambda folders: not folders)
    #: Data set -> the pack its videos were read from, in words (docs/packs.md).
    packs: dict[str, str] = Field(default={}, exclude_if=lambda packs: not packs)
    #: Data set of a user's own -> its title, where it is not its name.
    titles: dict[str, str] = Field(default={}, exclude_if=lambda titles: not titles)
    #: Data set -> counts of the last `tcclip data check` on this machine, where there was one.
    data_check: dict[str, dict[str, int]] = {}
    #: What is odd in the lists, in words: videos trained and tested on, classes without one.
    #: Left out where there is nothing.
    data_warnings: tuple[str, ...] = Field(default=(), exclude_if=lambda texts: not texts)


class Result(Record):
    """`result.json`: there and valid means the run is finished."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    key: RunKey
    selection: Selection
    measurements: tuple[Measurement, ...]
    parameters: int
    provenance: Provenance


class Failure(Record):
    """`failure.json`: why a run stopped. Replaced by the next failure, gone with the result."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    error: str
    message: str
    traceback: str
    attempt: int
    time: str
    #: Whether another attempt would end the same way; False in older records.
    repeats: bool = False
    #: Whether another attempt has begun since.
    went_on: bool = False
