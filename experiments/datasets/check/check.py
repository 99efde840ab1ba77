"""Whether the data a protocol needs is there and can be read (`tcclip data check`).

Existence is checked for every listed video; decoding, which is slow, for a sample or for all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import protocols
from experiments.datasets.check.class_names import check_llm_names, equal_prompts
from experiments.datasets.check.decoding import DecodedFile, decode_files
from experiments.datasets.check.lists import find_leak, leak_warnings, list_warnings
from experiments.datasets.check.record import DatasetCheck, LabelCheck, SplitCheck, check_file
from experiments.datasets.check.videos import SameVideo, VideoList
from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import (
    FoundVideos,
    Progress,
    difference,
    packed_digests,
)
from experiments.errors import MissingData, UserError
from experiments.grid.plan import Grid, expand
from protocols.datasets import DATASETS, Dataset, Split
from protocols.own_data import READ
from tcclip.data.annotations import read_all_names, read_list
from tcclip.data.seeding import seeded_rng
from tcclip.text_files import FileError

#: How many examples of each kind a record names. Of own data, all substituted files are named.
EXAMPLES = 20
#: A video with fewer frames is too short: some are repeated (SPEC 3).
MIN_FRAMES = 16
#: Lists that are trained on, by their splits' names; all others are tested on.
TRAINING = re.compile(r"base_s\d|.*train", re.IGNORECASE)
#: The number in the names of lists that belong together: train1 and val1.
NUMBER = re.compile(r"(?:train|val|test|split|fold)_?(\d+)(?!\d|_?shot)", re.IGNORECASE)


def check(
    dataset: Dataset,
    data_paths: DataPaths,
    *,
    splits: Sequence[str] | None = None,
    llm: bool = True,
    decode: int | None = 0,
    workers: int = 2,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> DatasetCheck:
    """Check `dataset`, or only the `splits` named; a missing folder is a result, not an error.

    `llm`: also the LLM-rephrased names of their classes.
    `decode`: how many videos to decode, the same ones each time, None for all; `workers` at once.
    What was decoded is kept in the cache; unchanged files are not decoded again.
    `progress` is told how many videos of how many a stage ("find" or "decode") has done.
    """
    chosen = [dataset.split(name) for name in splits] if splits else list(dataset.splits)
    lists = [_read(dataset, split, data_paths) for split in chosen]
    paths = sorted({item.path for one, _ in lists for item in one.items})
    found = _find_videos(dataset, paths, data_paths, lambda *done: progress("find", *done))
    order = seeded_rng("data check", dataset.name).permutation(len(found.files))
    there = sorted(found.files)
    sample = [there[place] for place in order[:decode]]
    decoded = decode_files(
        {path: found.locate(path) for path in sample},
        workers,
        check_file(data_paths, dataset.name).with_suffix(".jsonl"),
        lambda done: progress("decode", done, len(sample)),
        packed_digests(found) if sample else {},
    )
    used = {split.labels for split in chosen if llm}
    checks = (
        check_llm_names(dataset, labels, data_paths)
        for labels in dataset.label_sets
        if labels.name in used
    )
    return _summary(dataset, lists, found, decoded, tuple(filter(None, checks)))


def lists_to_check(
    known: Mapping[str, Dataset], names: tuple[str, ...] | None, protocol: str | None
) -> list[tuple[Dataset, list[str] | None, bool]]:
    """Data sets, their splits (None: all) and whether LLM-rephrased class names are needed."""
    for name in names or ():
        if name not in known:
            raise UserError(f"unknown data set {name!r}; known: {', '.join(known)}")
    if protocol is None:
        return [(known[name], None, True) for name in names or known]
    if protocol not in protocols.PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}; known: {', '.join(protocols.PROTOCOLS)}")
    needed: dict[str, dict[str, None]] = {}
    own = [Grid(protocol, datasets=(name,)) for name in names or () if name not in DATASETS]
    for spec in (spec for grid in (Grid(protocol), *own) for spec in expand(grid, known)):
        for one in (spec.train_list, *spec.validation, *spec.suites):
            needed.setdefault(one.dataset, {})[one.split.name] = None
    chosen = [name for name in needed if names is None or name in names]
    llm = "llm" in protocols.get(protocol).variants
    return [(known[name], list(needed[name]), llm) for name in chosen]


def _read(dataset: Dataset, split: Split, data_paths: DataPaths) -> tuple[VideoList, SplitCheck]:
    """The list, empty if it cannot be read, and what is wrong with it."""
    empty = VideoList(dataset.name, split.name, (), ())
    try:
        folder = data_paths.annotation_folder(dataset)
        labels = dataset.labels(split.labels)
        names = read_all_names(folder / labels.file, labels.classes)
        items = read_list(folder / split.annotations, len(names))
    except FileNotFoundError as error:
        return empty, SplitCheck(split=split.name, problem=f"{error.filename} is not there")
    except (FileError, MissingData) as error:
        return empty, SplitCheck(split=split.name, expected=split.videos, problem=str(error))
    problem = None
    if split.videos is not None and len(items) != split.videos:
        problem = f"{split.annotations} lists {len(items)} videos where {split.videos} are expected"
    elif dataset.name not in DATASETS and (text := equal_prompts(names)):
        problem = f"{labels.file}: {text}"
    one = VideoList(dataset.name, split.name, items, names)
    check = SplitCheck(split=split.name, listed=len(items), expected=split.videos, problem=problem)
    return one, check


def _find_videos(
    dataset: Dataset, paths: Sequence[str], data_paths: DataPaths, progress: Progress
) -> FoundVideos:
    try:
        return data_paths.find_videos(dataset.name, paths, progress)
    except MissingData as error:
        return FoundVideos(Path(), {}, dict.fromkeys(paths, ""), notes=(str(error),))


def _summary(
    dataset: Dataset,
    lists: Sequence[tuple[VideoList, SplitCheck]],
    found: FoundVideos,
    decoded: dict[str, DecodedFile],
    labels: tuple[LabelCheck, ...],
) -> DatasetCheck:
    same = SameVideo({dataset.name: found}, copies=[dataset.name])
    read = [one for one, _ in lists]
    pairs = _train_and_test(dataset, read)
    leaks = [find_leak(train, test, same) for train, test in pairs]
    readable = {path: one for path, one in decoded.items() if one.cause is None}
    examples = {
        "missing": [f"{path} ({why})" if why else path for path, why in found.missing.items()],
        "substituted": [
            f"{path}: {stored} ({difference(path, stored)})"
            for path, stored in found.locate.stored.items()
        ],
        "undecodable": [f"{path} ({one.cause})" for path, one in decoded.items() if one.cause],
        "damaged": [path for path, one in decoded.items() if one.damaged],
        "too_short": [path for path, one in readable.items() if one.frames < MIN_FRAMES],
        "leaked": _each_once(leak.files for leak in leaks),
        "leaked_copies": _each_once(leak.copies for leak in leaks),
    }
    shown = dict.fromkeys(examples, EXAMPLES)
    if dataset.name not in DATASETS:
        shown["substituted"] = len(examples["substituted"])
    return DatasetCheck(
        dataset=dataset.name,
        folder=str(found.folder),
        lists=dataset.digests,
        splits=tuple(_count(one, check, found, same) for one, check in lists),
        listed=len(found.files) + len(found.missing),
        found=len(found.files),
        decoded=len(decoded),
        readers=dict(Counter(one.reader for one in readable.values())),
        examples={kind: tuple(sorted(p)[: shown[kind]]) for kind, p in examples.items() if p},
        labels=labels,
        warnings=tuple(_warnings(dataset, read, pairs, found, same)),
        **{kind: len(names) for kind, names in examples.items()},
    )


def _count(one: VideoList, check: SplitCheck, found: FoundVideos, same: SameVideo) -> SplitCheck:
    missing = sum(item.path in found.missing for item in one.items)
    repeated = len(one.items) - len(same.videos(one).files)
    return check.model_copy(update={"missing": missing, "repeated": repeated})


def _warnings(
    dataset: Dataset,
    lists: Sequence[VideoList],
    pairs: Sequence[tuple[VideoList, VideoList]],
    found: FoundVideos,
    same: SameVideo,
) -> list[str]:
    warnings = [text for one in lists for text in list_warnings(one, same)]
    warnings += [text for pair in pairs for text in leak_warnings(*pair, same)]
    if dataset.name not in DATASETS:
        for pair in _validation_and_test(lists):
            warnings += leak_warnings(*pair, same, kind="validation")
        warnings += [
            f"{dataset.name} {split.name}: no protocol reads a list of this name"
            for split in dataset.splits
            if not READ.fullmatch(split.name)
        ]
    else:
        names = dict.fromkeys(tuple(one.classes) for one in lists)
        warnings += [text for some in names if (text := equal_prompts(some))]
    return [*dict.fromkeys(warnings), *found.notes]


def _train_and_test(
    dataset: Dataset, lists: Sequence[VideoList]
) -> list[tuple[VideoList, VideoList]]:
    """Training and test lists of the same setting.

    Published few-shot lists belong to split 1: val2 and val3 may share videos with them, as
    published.
    """
    published = dataset.name in DATASETS

    def together(train: VideoList, test: VideoList) -> bool:
        numbers = _numbers(train, test)
        if published and not NUMBER.search(train.split):
            numbers.add("1")
        return len(numbers) < 2

    training = [one for one in lists if TRAINING.match(one.split)]
    tests = [one for one in lists if not TRAINING.match(one.split)]
    return [(train, test) for train in training for test in tests if together(train, test)]


def _validation_and_test(lists: Sequence[VideoList]) -> list[tuple[VideoList, VideoList]]:
    validation = [one for one in lists if "val" in one.split]
    tests = [one for one in lists if "test" in one.split]
    return [(val, test) for val in validation for test in tests if len(_numbers(val, test)) < 2]


def _numbers(*lists: VideoList) -> set[str]:
    return {number for one in lists for number in NUMBER.findall(one.split)[:1]}


def _each_once(found: Iterable[dict[Hashable, str]]) -> list[str]:
    """The text of every video, from the first of several lists."""
    texts: dict[Hashable, str] = {}
    for one in found:
        texts = one | texts
    return list(texts.values())
