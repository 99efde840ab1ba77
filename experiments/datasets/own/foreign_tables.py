"""Tables of other projects: the CSV files of Kinetics, the JSON files of Something-Something v2."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.datasets.own.class_folders import SPLIT_FOLDERS
from experiments.datasets.own.foreign_lists import read_lines, split_name
from experiments.datasets.own.videos import Finder, Found, Videos
from experiments.errors import UserError, user_errors
from tcclip.data.annotations import Item
from tcclip.text_files import parse_json, read_text

_KINETICS = ("label", "youtube_id", "time_start", "time_end")


def is_kinetics(file: Path) -> bool:
    """Whether a file is a table of Kinetics, by its header."""
    return file.suffix.lower() == ".csv" and set(_KINETICS[1:]) <= set(_header(file))


def _header(file: Path) -> list[str]:
    first = next(csv.reader(read_lines(file)[:1], skipinitialspace=True), [])
    return [name.strip().lower() for name in first]


def read_kinetics(videos: Videos, files: Sequence[Path]) -> Found:
    """`label,youtube_id,time_start,time_end,split`; videos called ID_000001_000011, in any folder.

    The classes in alphabetical order. A row without a label (of a test list) is left out.
    """
    rows: list[tuple[str, str, str]] = []
    unlabelled = 0
    tables = [file for file in files if is_kinetics(file)]
    for file in tables:
        for row in csv.DictReader(read_lines(file)[1:], _header(file), skipinitialspace=True):
            split = _split(row, file)
            label = (row.get("label") or "").strip()
            unlabelled += not label
            if label:
                rows.append((split, label, _clip_name(row, file)))
    classes = sorted({label for _, label, _ in rows})
    ids = {name: number for number, name in enumerate(classes)}
    find = Finder(videos, (name for _, _, name in rows))
    lists: dict[str, list[Item]] = {}
    for split, label, name in dict.fromkeys(rows):
        if (path := find(name, "replacement", split)) is not None:
            lists.setdefault(split, []).append(Item(path, ids[label]))
    notes = find.notes(lists)
    if unlabelled:
        notes.append(f"left out, {unlabelled} rows without a label")
    return Found(tuple(classes), lists, tuple(notes), read=frozenset(tables))


def _split(row: dict[str, str], file: Path) -> str:
    """What a row's own column says, else the file's name. UserError if neither does."""
    said = (row.get("split") or "").strip()
    split = SPLIT_FOLDERS.get(said.lower()) if said else split_name(file)
    if split is None and said:
        raise UserError(f"{file}: split {said!r}; known: {', '.join(SPLIT_FOLDERS)}")
    if split is None:
        raise UserError(f"{file}: neither its rows nor its name say train, val or test")
    return split


def _clip_name(row: dict[str, str], file: Path) -> str:
    try:
        start, end = (int(float(row[name])) for name in _KINETICS[2:])
    except (TypeError, ValueError, OverflowError) as error:
        times = " and ".join(str(row[name] or "nothing") for name in _KINETICS[2:])
        raise UserError(
            f"{file}: the row of {row['youtube_id']} has {times} as its start and end; numbers of "
            "seconds are wanted"
        ) from error
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def read_ssv2(videos: Videos, files: Sequence[Path]) -> Found:
    """labels.json ({template: id}), train.json and validation.json ([{"id", "template"}, ...]).

    Videos are called ID.webm. A mirrored clip may show another class (left, right): flip is off.
    Entries without a template (of a test list) are left out.
    """
    tables = {file: _json(file) for file in files if file.suffix.lower() == ".json"}
    templates = [(file, one) for file, one in tables.items() if isinstance(one, dict)]
    if len(templates) != 1:
        raise UserError(f"one labels.json with {{template: id}} is wanted, found {len(templates)}")
    labels, content = templates[0]
    # Their ids are texts, as published.
    if sorted(map(str, content.values())) != sorted(map(str, range(len(content)))):
        raise UserError(f"{labels}: the ids of its {len(content)} templates are not 0 to n-1")
    ids = {name: int(number) for name, number in content.items()}
    unlabelled = 0
    rows: list[tuple[str, str, int]] = []  # list, video, label
    for file, entries in tables.items():
        if not isinstance(entries, list):
            continue
        split = split_name(file)
        if split is None:
            raise UserError(f"{file}: its name says neither train, validation nor test")
        for entry in entries:
            if not isinstance(entry, dict) or "id" not in entry:
                raise UserError(f"{file}: {entry!r} has no id; {{id, template}} is wanted")
            if "template" not in entry:
                unlabelled += 1
                continue
            template = re.sub(r"[\[\]]", "", str(entry["template"]))
            if template not in ids:
                raise UserError(f"{file}: {labels.name} has no template {template!r}")
            rows.append((split, str(entry["id"]), ids[template]))
    find = Finder(videos, (name for _, name, _ in rows))
    lists: dict[str, list[Item]] = {}
    for split, name, label in rows:
        if (path := find(name)) is not None:
            lists.setdefault(split, []).append(Item(path, label))
    notes = find.notes(lists)
    if unlabelled:
        notes.append(f"left out, {unlabelled} entries without a template")
    classes = tuple(sorted(ids, key=lambda name: ids[name]))
    return Found(classes, lists, tuple(notes), flip=False, read=frozenset(tables))


def _json(file: Path) -> Any:
    with user_errors():
        return parse_json(read_text(file), str(file))
