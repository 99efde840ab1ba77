"""Whether the data a protocol needs is there, and can be read (`tcclip data check`).

Existence is checked for every listed video. Decoding, of a sample or of all, is slow: it runs
in parallel and its findings are kept in a file, so that a check that was stopped goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import numpy as np
from pydantic import ValidationError

from experiments.datasets.label_check import LabelCheck, check_labels
from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import Locator
from experiments.errors import MissingData, UserError
from protocols.datasets import Dataset, Split
from tcclip.config import FrozenModel
from tcclip.data.annotations import AnnotationError, Item, read_class_names, read_list
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.draws import draws

#: How many examples of each kind a record names.
NAMED = 20
#: Folder of the cache that keeps what checks found.
CHECKS = "checks"
#: What of a check goes into a run's provenance.
COUNTS = ("listed", "found", "missing", "decoded", "undecodable", "damaged", "too_short", "leaked")
#: Threads that ask whether files are there: waiting for a network disk, not computing.
STAT_THREADS = 16


class Finding(FrozenModel):
    """What decoding one file showed; valid while the file has this size and time of change.

    `damaged`: packets that could not be decoded although the video could. `cause`: why not.
    """

    file: str
    bytes: int
    modified_ns: int
    frames: int = 0
    reader: str = ""
    damaged: int = 0
    cause: str | None = None


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
        """Whether nothing stops a protocol: lists and names usable, videos there, none unreadable.

        Short videos are not in the way: their frames are repeated (SPEC 3).
        """
        usable = all(split.problem is None for split in self.splits)
        named = all(labels.problem is None for labels in self.labels)
        return usable and named and not (self.missing or self.undecodable)


def check_file(data_paths: DataPaths, name: str) -> Path:
    """Where the last check of data set `name` is kept."""
    return data_paths.cache / CHECKS / f"{name}.json"


def last_check(data_paths: DataPaths, name: str) -> dict[str, int] | None:
    """The counts of the last check of data set `name`; None if there was none that can be read."""
    try:
        check = DatasetCheck.model_validate_json(check_file(data_paths, name).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return {count: getattr(check, count) for count in COUNTS}


class Progress(FrozenModel):
    """`done` of `total` videos of `dataset` have been through `stage`."""

    dataset: str
    stage: Literal["find", "decode"]
    done: int
    total: int


Report = Callable[[Progress], None]


def check(
    dataset: Dataset,
    data_paths: DataPaths,
    *,
    splits: Sequence[str] | None = None,
    llm: bool = True,
    decode: int | Literal["all"] = 0,
    workers: int = 2,
    frames: int = 16,
    timeout: float = 60.0,
    state: Path | None = None,
    progress: Report = lambda step: None,
) -> DatasetCheck:
    """Check `dataset`, or only the `splits` named; missing folders are findings, not errors.

    `llm`: also the LLM-rephrased names of their classes.
    `decode`: how many videos to decode, drawn the same way each time, or "all"; `workers` at once.
    `frames`: shorter videos are too short. `state`: file that keeps what was decoded; what it
    holds of an unchanged file is not done again.
    """
    chosen = [dataset.split(name) for name in splits] if splits else list(dataset.splits)
    lists = {split.name: _read(dataset, split, data_paths) for split in chosen}
    paths = sorted({item.path for items, _ in lists.values() for item in items})
    locate = _locator(dataset, data_paths)
    files = _find(dataset.name, paths, locate, progress)
    sample = _sample(dataset.name, sorted(files), decode)
    findings = dict(
        _decoded(
            dataset.name, {path: files[path] for path in sample}, workers, timeout, state, progress
        )
    )
    found = _summary(dataset, lists, paths, files, findings, frames)
    used = {split.labels for split in chosen if llm}
    return found.model_copy(update={"labels": check_labels(dataset, used, data_paths)})


def _read(dataset: Dataset, split: Split, data_paths: DataPaths) -> tuple[list[Item], SplitCheck]:
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


def _locator(dataset: Dataset, data_paths: DataPaths) -> Locator | None:
    try:
        return data_paths.locate(dataset)
    except MissingData:
        return None


def _find(
    name: str, paths: Sequence[str], locate: Locator | None, progress: Report
) -> dict[str, Path]:
    """Path in the list -> file, of the videos that are there."""
    if locate is None:
        return {}
    files: dict[str, Path] = {}
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        for done, (path, file) in enumerate(zip(paths, pool.map(locate, paths), strict=True), 1):
            if file.is_file():
                files[path] = file
            if done % 1000 == 0 or done == len(paths):
                progress(Progress(dataset=name, stage="find", done=done, total=len(paths)))
    return files


def _sample(name: str, paths: Sequence[str], decode: int | Literal["all"]) -> list[str]:
    if decode == "all":
        return list(paths)
    if decode < 0:
        raise UserError(f"--decode {decode}; give a number of videos, or `all`")
    order = draws("data check", name).permutation(len(paths))
    return [paths[int(place)] for place in order[:decode]]


def _decoded(
    name: str,
    files: dict[str, Path],
    workers: int,
    timeout: float,
    state: Path | None,
    progress: Report,
) -> Iterator[tuple[str, Finding]]:
    """(path, finding) of each file, the known ones first."""
    known = _known(state)
    todo: dict[str, Path] = {}
    for path, file in files.items():
        finding = known.get(str(file))
        if finding is not None and _is_current(finding, file):
            yield path, finding
        else:
            todo[path] = file
    done = len(files) - len(todo)
    with _decoders(workers, timeout) as idle, ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_decode, file, idle): path for path, file in todo.items()}
        for future in as_completed(futures):
            finding = future.result()
            _keep(state, finding)
            done += 1
            progress(Progress(dataset=name, stage="decode", done=done, total=len(files)))
            yield futures[future], finding


@contextmanager
def _decoders(workers: int, timeout: float) -> Iterator[SimpleQueue[Decoder]]:
    """A decoder a worker, each with a process of its own."""
    decoders = [Decoder("pyav", timeout) for _ in range(workers)]
    idle: SimpleQueue[Decoder] = SimpleQueue()
    for decoder in decoders:
        idle.put(decoder)
    try:
        yield idle
    finally:
        for decoder in decoders:
            decoder.close()


def _decode(file: Path, idle: SimpleQueue[Decoder]) -> Finding:
    decoder = idle.get()
    status = file.stat()
    finding = Finding(file=str(file), bytes=status.st_size, modified_ns=status.st_mtime_ns)
    try:
        # The whole file is decoded, whatever is picked of it.
        clip = decoder.read(file, lambda total: np.array([0, total - 1]))
    except UnreadableVideo as error:
        return finding.model_copy(update={"cause": error.cause})
    finally:
        idle.put(decoder)
    seen = {"frames": clip.total_frames, "reader": clip.reader, "damaged": clip.damaged}
    return finding.model_copy(update=seen)


def _known(state: Path | None) -> dict[str, Finding]:
    """What an earlier check found; a line cut short by its end is passed over."""
    if state is None or not state.is_file():
        return {}
    findings = {}
    for line in state.read_text().splitlines():
        try:
            finding = Finding.model_validate(json.loads(line))
        except (json.JSONDecodeError, ValidationError):
            continue
        findings[finding.file] = finding
    return findings


def _is_current(finding: Finding, file: Path) -> bool:
    status = file.stat()
    return (finding.bytes, finding.modified_ns) == (status.st_size, status.st_mtime_ns)


def _keep(state: Path | None, finding: Finding) -> None:
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        with state.open("a") as file:
            file.write(finding.model_dump_json() + "\n")


def _summary(
    dataset: Dataset,
    lists: dict[str, tuple[list[Item], SplitCheck]],
    paths: Sequence[str],
    files: dict[str, Path],
    findings: dict[str, Finding],
    frames: int,
) -> DatasetCheck:
    missing = [path for path in paths if path not in files]
    broken = [f"{path} ({one.cause})" for path, one in findings.items() if one.cause is not None]
    damaged = [path for path, one in findings.items() if one.damaged]
    short = [path for path, one in findings.items() if one.cause is None and one.frames < frames]
    leaked = sorted(_leaked({name: items for name, (items, _) in lists.items()}))
    groups = {
        "missing": missing, "undecodable": broken, "damaged": damaged, "too_short": short,
        "leaked": leaked,
    }  # fmt: skip
    gone = set(missing)
    splits = tuple(
        one.model_copy(update={"missing": sum(item.path in gone for item in items)})
        for items, one in lists.values()
    )
    return DatasetCheck(
        dataset=dataset.name,
        splits=splits,
        listed=len(paths),
        found=len(files),
        decoded=len(findings),
        readers=dict(Counter(one.reader for one in findings.values() if one.cause is None)),
        examples={kind: tuple(sorted(names)[:NAMED]) for kind, names in groups.items() if names},
        **{kind: len(names) for kind, names in groups.items()},
    )


def _leaked(lists: dict[str, list[Item]]) -> set[str]:
    """Videos in a training list and in the test list of the same setting.

    Few-shot lists belong to split 1, so val2 and val3 may share videos with them, as published.
    """

    def videos(names: Iterable[str]) -> set[str]:
        return {item.path for name in names for item in lists[name]}

    train = [name for name in lists if name.startswith(("train", "base_s"))]
    test = [name for name in lists if name in ("val", "val1", "base_val", "novel_val")]
    return videos(train) & videos(test)
