"""Class names that cannot be used as they are, or not without a word."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from unicodedata import normalize

from experiments.datasets.check.record import LabelCheck
from experiments.datasets.paths import DataPaths
from experiments.errors import MissingData
from protocols.datasets import Dataset, LabelSet
from tcclip.data.annotations import AnnotationError, read_class_names


def equal_prompts(names: Sequence[str]) -> str | None:
    """Which classes the model cannot tell apart, with the remedy; None if there are none.

    "Push Up", "push up" and "push_up" are the same tokens (SPEC 2.2): their logits are equal, and
    only the first of them is ever predicted.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        alike[_letters(name)].append(number)
    groups = [
        same for some in alike.values() if len(some) > 1 for same in _same_tokens(names, some)
    ]
    if not groups:
        return None
    texts = [" and ".join(f"{number} {names[number]!r}" for number in same) for same in groups]
    return (
        f"the model cannot tell classes {'; '.join(texts)} apart: capitals, spaces and underscores "
        "make no difference. Give them different names, or join them to one class"
    )


def _same_tokens(names: Sequence[str], numbers: Iterable[int]) -> list[list[int]]:
    from tcclip.model.tokens import normalise_name, word_ids  # slow to import

    same: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number in numbers:
        same[tuple(word_ids(f"{normalise_name(names[number])}."))].append(number)
    return [some for some in same.values() if len(some) > 1]


def check_llm_names(
    dataset: Dataset, used: Iterable[str], data_paths: DataPaths
) -> tuple[LabelCheck, ...]:
    """The LLM-rephrased names (variant llm) of those label sets in `used` that have any."""
    return tuple(
        _check_llm_names(dataset, labels, labels.llm, data_paths)
        for labels in dataset.label_sets
        if labels.name in set(used) and labels.llm
    )


def _check_llm_names(
    dataset: Dataset, labels: LabelSet, llm: str, data_paths: DataPaths
) -> LabelCheck:
    try:
        folder = data_paths.annotation_folder(dataset)
        rephrased = read_class_names(folder / llm, labels.classes)
        own = read_class_names(folder / labels.file, labels.classes)
    except FileNotFoundError as error:
        problem = f"{error.filename} is not there; `tcclip data fetch` brings it"
        return LabelCheck(labels=labels.name, file=llm, problem=problem)
    except (AnnotationError, MissingData) as error:
        return LabelCheck(labels=labels.name, file=llm, problem=str(error))
    elsewhere = tuple(_names_of_other_ids(own, rephrased))
    return LabelCheck(labels=labels.name, file=llm, elsewhere=elsewhere)


def _names_of_other_ids(own: list[str], rephrased: list[str]) -> Iterable[str]:
    """Where `rephrased` ("NAME: a sentence") has the name of another class."""
    ids = {_letters(name): number for number, name in enumerate(own)}
    for number, text in enumerate(rephrased):
        name = text.partition(":")[0]
        other = ids.get(_letters(name), number)
        if other != number and _letters(own[number]) != _letters(name):
            yield f"id {number} is {own[number]!r}, but {name!r} here, which is id {other}"


def _letters(name: str) -> str:
    """A name without what may differ between files: case, spaces, punctuation, Unicode forms."""
    text = normalize("NFKC", html.unescape(html.unescape(name))).casefold()
    return re.sub(r"[\W_]", "", text)
