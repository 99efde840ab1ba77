"""Annotation lists and class names, as published (SPEC 3 and 6)."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tcclip.text_files import FileError, parse_json, read_text


@dataclass(frozen=True)
class Item:
    """One video of a list: its path relative to the video folder, and its label id."""

    path: str
    label: int


def read_list(path: Path, classes: int | None = None) -> list[Item]:
    """The videos of an annotation list, in its order; empty lines are skipped.

    A line is `relative/path label`; the path may hold spaces. `classes`: how many classes the
    label ids index, if they are to be checked. Raises FileError naming file and line, or the
    file if it lists no video.
    """
    items = [
        _item(line, f"{path}:{number}", classes)
        for number, line in enumerate(_lines(path), start=1)
        if line.strip()
    ]
    if not items:
        raise FileError(f"{path} lists no video; a line is `relative/path label`")
    return items


def _lines(path: Path) -> list[str]:
    # Only \n ends a line: str.splitlines would also cut at exotic separators inside a path.
    return [line.removesuffix("\r") for line in _text(path).split("\n")]


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error


def _item(line: str, where: str, classes: int | None) -> Item:
    parts = line.strip().rsplit(maxsplit=1)
    if len(parts) != 2:
        raise FileError(f"{where}: {line!r} is not `relative/path label`")
    path, label = parts
    if not is_id(label):
        raise FileError(
            f"{where}: label {label!r} is not a class id; a line is `relative/path label`, "
            "with a whole number from 0"
        )
    if classes is not None and int(label) >= classes:
        counted = "; are the labels counted from 1?" if int(label) == classes else ""
        raise FileError(
            f"{where}: label {label} is out of range; the class list has ids 0 to "
            f"{classes - 1}{counted}"
        )
    if path.startswith("/") or ".." in path.split("/"):
        raise FileError(f"{where}: path {path!r} leaves the video folder; give it relative")
    return Item(path, int(label))


def is_id(text: str) -> bool:
    """Whether a text is a class id: a whole number from 0, of less than a billion classes."""
    return text.isascii() and text.isdigit() and len(text) < 10


def read_class_names(path: Path, classes: int | None = None) -> list[str]:
    """The name of each class, by id; of several, the first. As `read_all_names`."""
    return [names[0] for names in read_all_names(path, classes)]


def read_all_names(path: Path, classes: int | None = None) -> list[tuple[str, ...]]:
    """The names of each class, by id: CSV with a header `id,name`, or JSON {"id": "name"}, where
    a class may have several: {"id": ["name", "other name"]}.

    Of a CSV file with more columns, those that its header calls id and name count. Raises
    FileError if ids are not exactly 0 to n-1, a name is empty, or n is not `classes`.
    """
    pairs = _json_pairs(path) if path.suffix.lower() == ".json" else _csv_pairs(path)
    names: dict[int, tuple[str, ...]] = {}
    for where, number, own in pairs:
        if not is_id(number):
            raise FileError(f"{where}: class id {number!r} is not a whole number from 0")
        if int(number) in names:
            raise FileError(f"{where}: class id {number} is given twice")
        if not own or not all(name.strip() for name in own):
            raise FileError(f"{where}: class {number} has no name, or an empty one")
        names[int(number)] = tuple(dict.fromkeys(name.strip() for name in own))
    missing = set(range(len(names))) - set(names)
    if missing or not names:
        counted = "; are they counted from 1?" if missing == {0} and len(names) in names else ""
        raise FileError(
            f"{path}: ids must be 0 to n-1; {len(names)} names, missing {sorted(missing)[:5]}"
            f"{counted}"
        )
    if classes is not None and len(names) != classes:
        raise FileError(f"{path}: {len(names)} classes where {classes} are expected")
    return [names[number] for number in range(len(names))]


def _csv_pairs(path: Path) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    columns, at_id, at_name = 2, 0, 1
    for number, row in enumerate(_csv_rows(path), start=1):
        where, cells = f"{path}:{number}", [cell.strip() for cell in row]
        header = [cell.lower() for cell in cells]
        if number == 1 and "id" in header and not any(cell.isdigit() for cell in cells):
            columns, at_id = len(header), header.index("id")
            if columns > 2 and "name" not in header:
                raise FileError(f"{where}: call the column of the names `name`: {row}")
            at_name = header.index("name") if "name" in header else 1 - at_id
            continue
        if any(cells[columns:]):
            quoted = f'{cells[0]},"{",".join(row[1:]).strip()}"'
            raise FileError(
                f"{where}: {','.join(row)!r} has {len(row)} columns, where {columns} are expected. "
                f"Put a name with a comma in quotes ({quoted}), or name the columns in a first "
                "line: id,name,..."
            )
        if any(cells):
            if len(cells) <= max(at_id, at_name):
                raise FileError(f"{where}: {','.join(row)!r} is not `id,name`")
            yield where, cells[at_id], (cells[at_name],)


def _csv_rows(path: Path) -> Iterable[list[str]]:
    rows = csv.reader(_lines(path))
    try:
        yield from rows
    except csv.Error as error:  # a cell of more than 128 KiB: a quotation mark that is not closed
        raise FileError(f"{path}:{rows.line_num}: {error}") from error


def _json_pairs(path: Path) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    content = parse_json(_text(path), str(path))
    if not isinstance(content, dict):
        raise FileError(f'{path}: expected {{"id": "name"}}, got a {type(content).__name__}')
    for number, value in content.items():
        own = tuple(value) if isinstance(value, list) else (value,)
        if not all(isinstance(name, str) for name in own):
            raise FileError(f"{path}: name of class {number} is {value!r}, not text")
        yield str(path), number, own


def content_digest(content: Sequence[Item | str | tuple[str, ...]]) -> str:
    """Hexadecimal SHA-256 of a list's videos and labels, or of class names, in order.

    It is that of what was read: line ends and empty lines of the file do not matter.
    """
    values = [(one.path, one.label) if isinstance(one, Item) else one for one in content]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
