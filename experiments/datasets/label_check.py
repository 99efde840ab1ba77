"""Whether the LLM-rephrased class names (variant llm) are there and fit the data set's own."""

from __future__ import annotations

import re
from collections.abc import Iterable

from experiments.datasets.paths import DataPaths
from experiments.errors import MissingData
from protocols.datasets import Dataset, LabelSet
from tcclip.config import FrozenModel
from tcclip.data.annotations import AnnotationError, read_class_names


class LabelCheck(FrozenModel):
    """The LLM names of one label set. `problem`: why they cannot be used at all.

    `elsewhere`: classes whose LLM name is that of another id. It stops nothing: the published
    HMDB-51 names differ so, and are used as published.
    """

    labels: str
    file: str
    problem: str | None = None
    elsewhere: tuple[str, ...] = ()


def check_labels(
    dataset: Dataset, used: Iterable[str], data_paths: DataPaths
) -> tuple[LabelCheck, ...]:
    """The LLM names of the label sets `used`, as far as `dataset` has any."""
    sets = [labels for labels in dataset.label_sets if labels.name in set(used) and labels.llm]
    return tuple(_check(dataset, labels, labels.llm or "", data_paths) for labels in sets)


def _check(dataset: Dataset, labels: LabelSet, llm: str, data_paths: DataPaths) -> LabelCheck:
    one = LabelCheck(labels=labels.name, file=llm)
    try:
        folder = data_paths.annotation_folder(dataset)
        rephrased = read_class_names(folder / llm, labels.classes)
        own = read_class_names(folder / labels.file, labels.classes)
    except FileNotFoundError as error:
        problem = f"{error.filename} is not there; `tcclip data fetch` brings it"
        return one.model_copy(update={"problem": problem})
    except (AnnotationError, MissingData) as error:
        return one.model_copy(update={"problem": str(error)})
    return one.model_copy(update={"elsewhere": tuple(_elsewhere(own, rephrased))})


def _elsewhere(own: list[str], rephrased: list[str]) -> Iterable[str]:
    """`rephrased` begin with the class's name and a colon; those that name another class."""
    ids = {_letters(name): number for number, name in enumerate(own)}
    for number, text in enumerate(rephrased):
        name = text.partition(":")[0]
        other = ids.get(_letters(name), number)
        if other != number and _letters(own[number]) != _letters(name):
            yield f"id {number} is {own[number]!r}, but {name!r} here, which is id {other}"


def _letters(name: str) -> str:
    """A name without what differs between files: case, spaces, punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
