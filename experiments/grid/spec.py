"""RunSpec: one point of the grid, fully resolved, and the name that identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SerializeAsAny

from experiments.grid.weights_file import SCHEME
from protocols.datasets import Dataset, LabelSet, Pack, Split
from results.records import RunKey
from tcclip import methods
from tcclip.config import AugmentConfig, FrozenModel, ModelConfig, TrainConfig, Views


class ListSpec(FrozenModel):
    """One annotation list with the class list its label ids index, by name, never by path on disk.

    `llm`: the class names are the LLM-rephrased ones. `digest`: sha256 of the class names and, if
    they are read, videos and labels of a user's own list; None for a published one, which its name
    identifies. `pack`: what its videos are read from, if not from themselves.
    """

    suite: str
    dataset: str
    split: Split
    labels: LabelSet
    llm: bool = False
    views: Views = Views()
    digest: str | None = Field(default=None, exclude_if=lambda digest: digest is None)
    pack: Pack | None = Field(default=None, exclude_if=lambda pack: pack is None)

    @property
    def label_file(self) -> str:
        """The label file in force, relative to the annotations folder."""
        return self.labels.llm if self.llm and self.labels.llm else self.labels.file

    def with_digest(self, data: Dataset, read: bool) -> ListSpec:
        """This list of `data` with the digest of its content, and the pack its videos are in.

        `read`: whether its videos are.
        """
        files = (self.label_file, *((self.split.annotations,) if read else ()))
        text = " ".join(data.digests[file] for file in files if file in data.digests)
        digest = hashlib.sha256(text.encode()).hexdigest() if text else None
        return self.model_copy(update={"digest": digest, "pack": data.pack if read else None})


def _of_the_method(value: Any) -> Any:
    """Read settings as the method that they name has them."""
    return methods.settings(value) if isinstance(value, Mapping) else value


class RunSpec(FrozenModel):
    """Everything that changes a run's numbers, and nothing else.

    No paths, no device, worker or micro-batch counts: those are `Execution`'s.
    """

    key: RunKey
    model: Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_of_the_method)]
    train: TrainConfig
    augment: AugmentConfig
    train_list: ListSpec
    flip: bool
    validation: tuple[ListSpec, ...]
    suites: tuple[ListSpec, ...]
    ensemble_weight: float | None = None
    selection: str
    #: run_id of the run whose best checkpoint this one starts from (the pretrained variant), or
    #: whose training it goes on with.
    parent: str | None = None
    #: The epochs of the parent whose training this run goes on with; None: it starts with its own.
    extends: int | None = Field(default=None, exclude_if=lambda epochs: epochs is None)
    #: sha256 of a checkpoint this run starts from: a parent's, or weights to evaluate.
    checkpoint: str | None = None

    @property
    def clip_content(self) -> str | None:
        """sha256 of the file that CLIP's weights are read from; None if they come by name."""
        value = self.train.clip_weights
        return value.removeprefix(SCHEME) if value.startswith(SCHEME) else None

    @property
    def lists(self) -> list[tuple[ListSpec, bool]]:
        """The lists of the run, and whether their videos are read, or the class names alone.

        A model that is not trained needs only the class names of its training list.
        """
        trained = self.train.epochs > 0
        others = (*(self.validation if trained else ()), *self.suites)
        return [(self.train_list, trained), *((one, True) for one in others)]

    def with_digests(self, datasets: Mapping[str, Dataset]) -> RunSpec:
        """This run with the digests of users' own lists, and of packs: others make another run.

        A model that is not trained reads only the lists it is tested on.
        """

        def identified(one: ListSpec, read: bool) -> ListSpec:
            return one.with_digest(datasets[one.dataset], read)

        trained = self.train.epochs > 0
        return self.model_copy(
            update={
                "train_list": identified(self.train_list, trained),
                "validation": tuple(identified(one, trained) for one in self.validation),
                "suites": tuple(identified(one, True) for one in self.suites),
            }
        )

    @property
    def epochs_to_train(self) -> int:
        """Its epochs without those of the run whose training it goes on with."""
        return self.train.epochs - (self.extends or 0)

    def extended(self, epochs: int) -> RunSpec:
        """The run that goes on where this one ended, on the schedule of `epochs` epochs."""
        name, before = "train.epochs=", self.train.epochs
        others = [one for one in self.key.overrides if not one.startswith(name)]
        earlier = "" if self.extends is None else f"{self.key.origin}, then "
        key = self.key.model_copy(
            update={
                "overrides": tuple(sorted([*others, f"{name}{epochs}"])),
                "origin": f"{earlier}epoch {before} of {before}",
            }
        )
        train = self.train.model_copy(update={"epochs": epochs})
        return self.model_copy(
            update={
                "key": key,
                "train": train,
                "parent": self.run_id,
                "extends": before,
                "checkpoint": None,
            }
        )

    def with_seed(self, seed: int) -> RunSpec:
        """The run of the same point with another seed."""
        return self.model_copy(update={"key": self.key.model_copy(update={"seed": seed})})

    @cached_property
    def run_id(self) -> str:
        """The point in words, and 10 hex digits of the sha256 of the spec as canonical JSON."""
        # `overrides` only says which settings differ; the settings themselves are all here.
        data = self.model_dump(mode="json", exclude={"key": {"overrides"}})
        for one in (data["train_list"], *data["validation"], *data["suites"]):
            if "digest" in one:  # what its files hold counts, not what they are called
                del one["split"]["annotations"], one["labels"]["file"], one["labels"]["llm"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        key = self.key
        point = [f"k{key.shots}"] if key.shots is not None else []
        point += [f"b{key.base_split}"] if key.base_split is not None else []
        parts = [key.protocol, key.dataset, key.model, key.variant, *point, f"s{key.seed}"]
        return "-".join([*parts, hashlib.sha256(text.encode()).hexdigest()[:10]])

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed copy, as pydantic's but without the cached `run_id`."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("run_id", None)
        return copied


def with_parents(specs: Iterable[RunSpec], find: Callable[[str], RunSpec]) -> list[RunSpec]:
    """`specs`, each after the runs that it starts from. `find`: the run with a run id."""
    ordered: dict[str, RunSpec] = {}
    for spec in specs:
        line = [spec]
        while (parent := line[-1].parent) is not None:
            line.append(find(parent))
        ordered |= {one.run_id: one for one in reversed(line)}
    return list(ordered.values())
