"""Whether the data a protocol needs is there and can be read (`tcclip data check`).

Existence is checked for every listed video; decoding, which is slow, for a sample or for all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

import protocols
from experiments.datasets.decode_check import DecodedFile, decode_files
from experiments.datasets.paths import DataPaths
from experiments.errors import MissingData, UserError
from experiments.grid.plan import Grid, expand
from protocols.datasets import Dataset, LabelSet, Split
from tcclip.config import FrozenModel
from tcclip.data.annotations import AnnotationError, Item, read_class_names, read_list
from tcclip.data.seeding import seeded_rng

#: How many examples of each kind a record names.
EXAMPLES = 20
#: A video with fewer frames is too short: some are repeated (SPEC 3).
MIN_FRAMES = 16
#: What of a check goes into a run's provenance.
COUNTS = ("listed", "found", "missing", "decoded", "undecodable", "damaged", "too_short", "leaked")
#: Threads that ask whether files are there: most of the time they wait for a network disk.
STAT_THREADS = 16


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

    `missing`, `undecodable`, `too_short` and `leaked` (in a training and a test list of the same
    setting) are counts; `examples` names some of each. `decoded` of `listed` were decoded.
    `labels`: the LLM-rephrased class names, where there are any.
    """

    dataset: str
    splits: tuple[SplitCheck, ...]
    listed: int
    found: int
    missing: int
    decoded: int
    undecodable: int
    damaged: int
    too_short: int
    leaked: int
    readers: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    labels: tuple[LabelCheck, ...] = ()

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
    """The counts of the last check of data set `name`; None without one that can be read."""
    try:
        check = DatasetCheck.model_validate_json(check_file(data_paths, name).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return {count: getattr(check, count) for count in COUNTS}


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
    lists = {split.name: _read_list(dataset, split, data_paths) for split in chosen}
    paths = sorted({item.path for items, _ in lists.values() for item in items})
    files = _find_videos(dataset, paths, data_paths, progress)
    found = sorted(files)
    order = seeded_rng("data check", dataset.name).permutation(len(found))
    sample = {found[place]: files[found[place]] for place in order[:decode]}
    decoded = decode_files(
        sample,
        workers,
        check_file(data_paths, dataset.name).with_suffix(".jsonl"),
        lambda done: progress("decode", done, len(sample)),
    )
    labels = check_labels(dataset, {split.labels for split in chosen if llm}, data_paths)
    return _summary(dataset, lists, paths, files, decoded, labels)


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
    for spec in expand(Grid(protocol), known):
        for one in (spec.train_list, *spec.validation, *spec.suites):
            needed.setdefault(one.dataset, {})[one.split.name] = None
    chosen = [name for name in needed if names is None or name in names]
    llm = "llm" in protocols.get(protocol).variants
    return [(known[name], list(needed[name]), llm) for name in chosen]


def _read_list(
    dataset: Dataset, split: Split, data_paths: DataPaths
) -> tuple[list[Item], SplitCheck]:
    try:
        folder = data_paths.annotation_folder(dataset)
        labels = dataset.labels(split.labels)
        names = read_class_names(folder / labels.file, labels.classes)
        items = read_list(folder / split.annotations, len(names))
    except FileNotFoundError as error:
        return [], SplitCheck(split=split.name, problem=f"{error.filename} is not there")
    except (AnnotationError, MissingData) as error:
        return [], SplitCheck(split=split.name, expected=split.videos, problem=str(error))
    problem = None
    if split.videos is not None and len(items) != split.videos:
        problem = f"{split.annotations} lists {len(items)} videos where {split.videos} are expected"
    check = SplitCheck(
        split=split.name,
        listed=len(items),
        expected=split.videos,
        repeated=len(items) - len({item.path for item in items}),
        problem=problem,
    )
    return items, check


def _find_videos(
    dataset: Dataset,
    paths: Sequence[str],
    data_paths: DataPaths,
    progress: Callable[[str, int, int], None],
) -> dict[str, Path]:
    """List entry -> file, of the videos that are there."""
    try:
        locate = data_paths.locate(dataset.name)
    except MissingData:
        return {}
    files: dict[str, Path] = {}
    total = len(paths)
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        for done, (path, file) in enumerate(zip(paths, pool.map(locate, paths), strict=True), 1):
            if file.exists():
                files[path] = file
            if done % 1000 == 0 or done == total:
                progress("find", done, total)
    return files


def _summary(
    dataset: Dataset,
    lists: dict[str, tuple[list[Item], SplitCheck]],
    paths: Sequence[str],
    files: dict[str, Path],
    decoded: dict[str, DecodedFile],
    labels: tuple[LabelCheck, ...],
) -> DatasetCheck:
    missing = {path for path in paths if path not in files}
    readable = {path: one for path, one in decoded.items() if one.cause is None}
    examples = {
        "missing": missing,
        "undecodable": [f"{path} ({one.cause})" for path, one in decoded.items() if one.cause],
        "damaged": [path for path, one in decoded.items() if one.damaged],
        "too_short": [path for path, one in readable.items() if one.frames < MIN_FRAMES],
        "leaked": _leaked({name: items for name, (items, _) in lists.items()}),
    }
    splits = tuple(
        one.model_copy(update={"missing": sum(item.path in missing for item in items)})
        for items, one in lists.values()
    )
    return DatasetCheck(
        dataset=dataset.name,
        splits=splits,
        listed=len(paths),
        found=len(files),
        decoded=len(decoded),
        readers=dict(Counter(one.reader for one in readable.values())),
        examples={kind: tuple(sorted(p)[:EXAMPLES]) for kind, p in examples.items() if p},
        labels=labels,
        **{kind: len(names) for kind, names in examples.items()},
    )


def _leaked(lists: dict[str, list[Item]]) -> set[str]:
    """Videos in a training list and in the test list of the same setting.

    Few-shot lists belong to split 1, so val2 and val3 may share videos with them, as published.
    """
    train = [name for name in lists if name.startswith(("train", "base_s"))]
    test = [name for name in lists if name in ("val", "val1", "base_val", "novel_val")]
    trained = {item.path for name in train for item in lists[name]}
    return {item.path for name in test for item in lists[name] if item.path in trained}


# ---- LLM-rephrased class names (variant llm) ----


def check_labels(
    dataset: Dataset, used: Iterable[str], data_paths: DataPaths
) -> tuple[LabelCheck, ...]:
    """The LLM-rephrased names of those label sets in `used` that have any."""
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
    """A name without what differs between files: case, spaces, punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
