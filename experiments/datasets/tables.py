"""What `tcclip data` prints: progress, the table of data sets, what checks found."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.datasets.check.record import COUNTS, DatasetCheck
from experiments.datasets.own.init import Written
from experiments.datasets.packing import PackReport
from experiments.datasets.paths import DataPaths
from experiments.errors import MissingData
from experiments.monitor.table import print_rows
from protocols.datasets import Dataset
from tcclip.data.cache.store import Store, StoredFile

#: How many faults and examples of each kind are printed; the counts are always complete.
SHOWN = 10


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr; yields what is called with a text, the number done, and of how many."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)

        def show(text: str, done: int, total: int) -> None:
            bar.update(task, total=total, completed=done, description=f"{title}: {text[-60:]}")

        yield show


def show_written(written: Written) -> None:
    """Print what `tcclip data init` wrote, what was left out and how to go on."""
    counts = ", ".join(f"{name} {number}" for name, number in written.lists.items())
    print(f"{written.name}: {written.classes} classes; {counts}")
    for note in written.notes:
        print(f"note: {note}")
    print(f"written: {written.file}\nnext:")
    for command in written.commands:
        print(f"  {command}")


def show_pack(one: PackReport) -> None:
    """Print what a pack holds, what it could not take, and how it is used."""
    packed = [file for file in one.files.values() if not file.cause]
    failed = [f"{name} ({file.cause})" for name, file in one.files.items() if file.cause]
    gone = [f"{name} ({why})" if why else name for name, why in one.missing.items()]
    for note in one.notes:
        print(f"note: {note}")
    for what, names in (("not there", gone), ("could not be packed", failed)):
        for text in sorted(names)[:SHOWN]:
            print(f"{one.dataset}, {what}: {text}")
        if len(names) > SHOWN:
            print(f"{one.dataset}, {what}: and {len(names) - SHOWN} more")
    size = sum(file.bytes for file in packed)
    times = f", {size / one.source_bytes:.1f} times its videos" if one.source_bytes else ""
    print(f"{one.folder}: {len(packed)} videos of {one.dataset}, {size / 1e9:.3g} GB{times}")
    print(one.pack)
    if packed:
        worst = min(packed, key=lambda file: file.psnr)
        middle = statistics.median(file.psnr for file in packed)
        print(f"PSNR {middle:.1f} dB (median), lowest {worst.psnr:.1f} dB: {worst.video}")
    print(
        f"runs read it with --data-root {one.folder.parent}, with `folders: {{{one.dataset}: "
        f"{one.folder}}}` in the config file, or, if own data, with `videos: {one.folder}`"
    )


def show_list(data_paths: DataPaths, format: str) -> None:
    """Print every data set's splits, counts, and what is on this machine."""
    head = ("data set", "split", "labels", "classes", "videos", "list", "videos folder")
    rows: list[Sequence[str]] = []
    for data in data_paths.datasets().values():
        for split in data.splits:
            labels = data.labels(split.labels)
            count = "–" if split.videos is None else str(split.videos)
            rows.append(
                (data.name, split.name, labels.name, str(labels.classes), count,
                 _list_state(data_paths, data, split.annotations), _video_state(data_paths, data))
            )  # fmt: skip
    print_rows("data sets and their splits", head, rows, format, left=3)


#: Ending of a cached file -> what it holds.
CACHED = {"test": "test videos: views", "train": "training videos: all frames", "id": "digests"}


def show_cache(store: Store, format: str) -> None:
    """Print what of decoded videos is kept, how much of the disk it takes and when it was used."""
    kinds: dict[str, list[StoredFile]] = {text: [] for text in CACHED.values()}
    for one in store.files():
        kinds.setdefault(CACHED.get(one.path.suffix[1:], "unfinished"), []).append(one)
    rows = [
        (text, str(len(files)), f"{sum(one.size for one in files) / 1e9:.3f}",
         *(_day(files, at) for at in (0, -1)))
        for text, files in kinds.items()
    ]  # fmt: skip
    head = ("kept", "files", "GB", "first used", "last used")
    limit = f"with --cache-size auto they may take {store.limit / 1e9:.3g} GB"
    print_rows(f"decoded frames in {store.folder}; {limit}", head, rows, format, left=1)


def _day(files: Sequence[StoredFile], at: int) -> str:
    if not files:
        return "–"
    return datetime.fromtimestamp(files[at].used).isoformat(" ", "minutes")


def _list_state(data_paths: DataPaths, data: Dataset, name: str) -> str:
    if data.embedded:
        return "embedded"
    try:
        return "there" if (data_paths.annotation_folder(data) / name).is_file() else "missing"
    except MissingData:
        return "no folder given"


def _video_state(data_paths: DataPaths, data: Dataset) -> str:
    if data.embedded:
        return "embedded"
    try:
        folder = data_paths.video_folder(data)
    except MissingData:
        return "no folder given"
    return str(folder) if folder.is_dir() else f"missing: {folder}"


def show_checks(checks: Sequence[DatasetCheck], format: str) -> None:
    """Print the counts of every check, then problems and examples."""
    if format == "json":
        print(json.dumps([one.model_dump(mode="json") for one in checks], indent=1))
        return
    counts = [name for name in COUNTS if name != "damaged"]
    head = ("data set", "ok", *(name.replace("_", " ") for name in counts))
    rows = [
        (one.dataset, "yes" if one.complete else "no",
         *(str(getattr(one, name)) for name in counts))
        for one in checks
    ]  # fmt: skip
    print_rows("data check", head, rows, format)
    for text in (text for one in checks for text in _remarks(one)):
        print(text)


def _remarks(one: DatasetCheck) -> Iterator[str]:
    """What is to be said of a check beside its counts."""
    name = one.dataset
    for split in one.splits:
        if split.problem:
            yield f"{name} {split.split}: {split.problem}"
    for labels in one.labels:
        if labels.problem:
            yield f"{name} {labels.labels}, needed for variant llm: {labels.problem}"
        for text in labels.elsewhere[:SHOWN]:
            yield f"{name} {labels.labels}, {labels.file}: {text}"
    yield from (f"warning: {text}" for text in one.warnings)
    for kind, examples in one.examples.items():
        for text in examples[:SHOWN]:
            yield f"{name}, {kind.replace('_', ' ')}: {text}"
        if (more := getattr(one, kind) - SHOWN) > 0:
            yield f"{name}, {kind.replace('_', ' ')}: and {more} more (see --format json)"
