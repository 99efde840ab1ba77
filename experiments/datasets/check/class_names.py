"""Class names that cannot be used as they are, or not without a word."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from unicodedata import normalize

from experiments.datasets.check.record import LabelCheck
from experiments.datasets.paths import DataPaths
from experiments.errors import MissingData
from protocols.datasets import DATASETS, Dataset, LabelSet
from tcclip.data.annotations import read_all_names
from tcclip.text_files import FileError


def equal_prompts(names: Sequence[Sequence[str]]) -> str | None:
    """Which classes the model cannot tell apart, with the remedy; None if there are none.

    `names`: those of every class. Training uses the first alone, tests the mean over all.
    "Push Up", "push up" and "push_up" are the same tokens (SPEC 2.2): their logits are equal, and
    only the first of them is ever predicted.
    """
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for number, own in enumerate(_tokens(names)):
        alike[own[0]].append(number)
        alike[frozenset(own)].append(number)
    groups = dict.fromkeys(tuple(some) for some in alike.values() if len(some) > 1)
    if not groups:
        return None
    texts = [
        " and ".join(f"{number} {_quoted(names[number])}" for number in same) for same in groups
    ]
    return (
        f"the model cannot tell classes {'; '.join(texts)} apart: capitals, spaces and underscores "
        "make no difference. Give them different names, or join them to one class"
    )


def shared_names(names: Sequence[Sequence[str]]) -> str | None:
    """Which names several classes have among others, with the remedy; None if there are none."""
    classes: dict[Hashable, dict[int, str]] = defaultdict(dict)
    for number, own in enumerate(_tokens(names)):
        for tokens, name in zip(own, names[number], strict=True):
            classes[tokens][number] = name
    texts = [
        f"{_quoted(dict.fromkeys(same.values()))} of {' and '.join(map(str, same))}"
        for same in classes.values()
        if len(same) > 1 and any(len(names[number]) > 1 for number in same)
    ]
    if not texts:
        return None
    return (
        f"classes that share a name: {'; '.join(texts)}: videos of one are easily taken for the "
        "other. Give each name to one class"
    )


def common_names(names: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> list[str]:
    """The first names of those classes in `names` that have a name of a class in `others`."""
    tokens = _tokens([*names, *others])
    known = {one for own in tokens[len(names) :] for one in own}
    return [own[0] for own, keys in zip(names, tokens, strict=False) if known & set(keys)]


def _tokens(names: Sequence[Sequence[str]]) -> list[list[Hashable]]:
    """For every name of every class what is equal where the model sees the same tokens."""
    classes: dict[str, set[int]] = defaultdict(set)
    for number, own in enumerate(names):
        for name in own:
            classes[_letters(name)].add(number)

    def key(name: str) -> Hashable:
        letters = _letters(name)
        if len(classes[letters]) == 1:
            return letters
        from tcclip.model.tokens import normalise_name, word_ids  # slow to import

        return tuple(word_ids(f"{normalise_name(name)}."))

    return [[key(name) for name in own] for own in names]


def _quoted(names: Iterable[str]) -> str:
    return " / ".join(map(repr, names))


def check_llm_names(dataset: Dataset, labels: LabelSet, data_paths: DataPaths) -> LabelCheck | None:
    """The LLM-rephrased names (variant llm) of a label set; None if it has none."""
    if not (llm := labels.llm):
        return None
    try:
        folder = data_paths.annotation_folder(dataset)
        rephrased = read_all_names(folder / llm, labels.classes)
        own = read_all_names(folder / labels.file, labels.classes)
    except FileNotFoundError as error:
        text = f"{error.filename} is not there; `tcclip data fetch` brings it"
        return LabelCheck(labels=labels.name, file=llm, problem=text)
    except (FileError, MissingData) as error:
        return LabelCheck(labels=labels.name, file=llm, problem=str(error))
    elsewhere = tuple(_names_of_other_ids(own, rephrased))
    # Published names are used as published.
    problem = None if dataset.name in DATASETS else equal_prompts(rephrased)
    return LabelCheck(labels=labels.name, file=llm, elsewhere=elsewhere, problem=problem)


def _names_of_other_ids(
    own: Sequence[Sequence[str]], rephrased: Sequence[Sequence[str]]
) -> Iterable[str]:
    """Where `rephrased` ("NAME: a sentence") has the name of another class."""
    ids = {_letters(names[0]): number for number, names in enumerate(own)}
    for number, texts in enumerate(rephrased):
        name = texts[0].partition(":")[0]
        other = ids.get(_letters(name), number)
        if other != number and _letters(own[number][0]) != _letters(name):
            yield f"id {number} is {own[number][0]!r}, but {name!r} here, which is id {other}"


def _letters(name: str) -> str:
    """A name without what may differ between files: case, spaces, punctuation, Unicode forms."""
    text = normalize("NFKC", html.unescape(html.unescape(name))).casefold()
    return re.sub(r"[\W_]", "", text)
