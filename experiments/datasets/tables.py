"""What the data commands do and print: progress, the table of data sets, what checks found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import protocols
from experiments.datasets.check import CHECKS, DatasetCheck, check_file
from experiments.datasets.check import check as check_dataset
from experiments.datasets.fetch import fetch as fetch_files
from experiments.datasets.paths import DataPaths
from experiments.errors import UserError
from experiments.grid.plan import Grid, expand
from experiments.monitor.table import print_rows
from experiments.store.files import write_text
from protocols.datasets import Dataset

#: How many faults and examples of each kind are printed; the counts are always complete.
SHOWN = 10


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr; yields what is called with a text, the number done, and of how many."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)

        def show(text: str, done: int, total: int) -> None:
            bar.update(task, total=total, completed=done, description=f"{title}: {text[-60:]}")

        yield show


def fetch(source: str | None, to: Path) -> int:
    """Bring the published lists to `to`; 0 if every file with a known digest is there."""
    with _progress_bar("annotation files") as show:
        faults = fetch_files(source, to, show)
    wrong = [fault for fault in faults if fault.known]
    for fault in faults:
        print(fault if fault.known else f"{fault} (its digest is not known yet)", file=sys.stderr)
    print(f"{to}: {len(wrong)} files missing or changed; use it with --annotations {to}")
    return 1 if wrong else 0


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


def _list_state(data_paths: DataPaths, data: Dataset, name: str) -> str:
    if data.embedded:
        return "embedded"
    folder = data_paths.find_annotations(data)
    if folder is None:
        return "no folder given"
    return "there" if (folder / name).is_file() else "missing"


def _video_state(data_paths: DataPaths, data: Dataset) -> str:
    if data.embedded:
        return "embedded"
    folder = data_paths.find_videos(data)
    if folder is None:
        return "no folder given"
    return str(folder) if folder.is_dir() else f"missing: {folder}"


def check(
    data_paths: DataPaths,
    *,
    names: tuple[str, ...] | None,
    protocol: str | None,
    decode: int | Literal["all"],
    workers: int,
    format: str,
) -> int:
    """Check data sets, or what `protocol` needs; 0 if nothing that is needed is missing."""
    checks = []
    for data, splits, llm in _wanted(data_paths, names, protocol):
        with _progress_bar(data.name) as show:
            state = data_paths.cache / CHECKS / f"{data.name}.jsonl"
            checks.append(
                check_dataset(
                    data, data_paths, splits=splits, llm=llm, decode=decode, workers=workers,
                    state=state, progress=show,
                )
            )  # fmt: skip
    for one in checks:
        write_text(check_file(data_paths, one.dataset), one.model_dump_json(indent=1))
    _print_checks(checks, format)
    return 0 if all(one.complete for one in checks) else 1


def _wanted(
    data_paths: DataPaths, names: tuple[str, ...] | None, protocol: str | None
) -> list[tuple[Dataset, list[str] | None, bool]]:
    """Data sets, their splits (None: all) and whether LLM-rephrased class names are needed."""
    known = data_paths.datasets()
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


def _print_checks(checks: Sequence[DatasetCheck], format: str) -> None:
    if format == "json":
        print(json.dumps([one.model_dump(mode="json") for one in checks], indent=1))
        return
    counts = ("listed", "found", "missing", "decoded", "undecodable", "too_short", "leaked")
    head = ("data set", "ok", *(name.replace("_", " ") for name in counts))
    rows = [
        (one.dataset, "yes" if one.complete else "no",
         *(str(getattr(one, name)) for name in counts))
        for one in checks
    ]  # fmt: skip
    print_rows("data check", head, rows, format)
    for one in checks:
        for split in one.splits:
            if split.problem:
                print(f"{one.dataset} {split.split}: {split.problem}")
        for labels in one.labels:
            if labels.problem:
                print(f"{one.dataset} {labels.labels}, needed for variant llm: {labels.problem}")
            for text in labels.elsewhere[:SHOWN]:
                print(f"{one.dataset} {labels.labels}, {labels.file}: {text}")
        for kind, examples in one.examples.items():
            for text in examples[:SHOWN]:
                print(f"{one.dataset}, {kind}: {text}")
