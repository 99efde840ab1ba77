"""The fields of a protocol: training, evaluation, and the statistic of its table."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field, JsonValue

from protocols.datasets import Dataset, Split
from tcclip.config import AugmentConfig, FrozenModel, TrainConfig, Views

Variant = Literal["base", "llm", "pretrained"]
GridAxis = Literal["shots", "base_split"]


class Suite(FrozenModel):
    """An evaluation: splits of one data set, each scored against its own class list."""

    name: str
    dataset: str
    splits: tuple[str, ...]
    views: Views = Views()


class Statistic(FrozenModel):
    """How a table's number is computed: the mean over an axis, and its std.

    `axis` "splits": the splits of one model; "base_splits": runs trained on different base
    splits; "none": a single run's number. `ddof` is that of the published std.
    """

    axis: Literal["none", "splits", "base_splits"]
    metrics: tuple[Literal["top1", "top5"], ...] = ("top1",)
    ddof: int = 0


class Protocol(FrozenModel):
    """A frozen, versioned protocol. A fix makes a new version; old results stay readable.

    `{dataset}`, `{shots}` and `{base_split}` in split names are filled in per grid point.
    `eval_splits` names the test split of each data set where `{test}` is written.
    """

    name: str
    version: int
    title: str
    #: The title where something else was trained on; empty: the same.
    title_on_others: str = ""
    demo: bool = False
    #: Training data sets: an axis of the grid.
    datasets: tuple[str, ...]
    axis: GridAxis | None = None
    axis_values: tuple[int, ...] = ()
    variants: tuple[Variant, ...] = ("base", "llm", "pretrained")
    #: Data sets on which a variant is not defined, e.g. pretrained on K400 itself.
    undefined: tuple[tuple[Variant, str], ...] = ()
    train: TrainConfig
    train_split: str
    validation: Suite
    suites: tuple[Suite, ...]
    eval_splits: dict[str, str] = Field(default_factory=dict)
    #: Share of the fine-tuned weights when ensembled with CLIP's (SPEC 5); None: not evaluated.
    ensemble_weight: float | None = None
    #: The first epoch wins a tie (SPEC 4). Quirk: some protocols validate on the test set.
    selection: Literal["best_validation_top1"] = "best_validation_top1"
    statistic: Statistic
    #: Model settings that differ from the defaults of ModelConfig.
    model: dict[str, JsonValue] = Field(default_factory=dict)
    augment: AugmentConfig = AugmentConfig()
    seeds: tuple[int, ...] = (1024,)
    models: tuple[str, ...] = ("tc_clip",)

    def title_on(self, datasets: Collection[str]) -> str:
        """The title of what was trained on `datasets`, which it must not call something else."""
        return (
            self.title
            if set(datasets) <= set(self.datasets)
            else self.title_on_others or self.title
        )

    def point_split(self, data: Dataset, value: int | None) -> Split:
        """The list a grid point trains on; `value` is the point's shots or base split.

        ValueError if the data set has no such list.
        """
        return data.split(self._fill(self.train_split, data.name, value))

    def point_suite(self, suite: Suite, dataset_name: str) -> Suite:
        """`suite` with the placeholders filled in for a model trained on `dataset_name`."""
        return suite.model_copy(
            update={
                "name": self._fill(suite.name, dataset_name, None),
                "dataset": self._fill(suite.dataset, dataset_name, None),
                "splits": tuple(self._fill(s, dataset_name, None) for s in suite.splits),
            }
        )

    def _fill(self, text: str, dataset_name: str, value: int | None) -> str:
        return text.format(
            dataset=dataset_name,
            shots=value,
            base_split=value,
            test=self.eval_splits.get(dataset_name, "val"),
        )
