"""Text lists of other projects: mmaction2's, UCF101's and HMDB51's official ones."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from experiments.datasets.own.videos import Finder, Found, Videos, some
from experiments.datasets.video_files import VIDEO_SUFFIXES
from experiments.errors import UserError, user_errors
from tcclip.data.annotations import Item, read_class_names
from tcclip.data.decode.images.frame_folder import frame_files
from tcclip.data.decode.video_file import DecodingError
from tcclip.text_files import read_text

#: Files that may hold the class names beside mmaction2's lists.
NAME_FILES = ("label_map*.txt", "classInd.txt", "classes.txt", "class_names.txt", "label*.csv")
#: What a file of class names may have as its first line, in place of a name.
HEADERS = ("class", "classes", "class_name", "classname", "label", "labels", "name", "names")
#: Lines of a file of class names: `0 wave`, `wave 0`.
NUMBERED = (r"(?P<number>\d+)[\s,:]+(?P<name>.+)", r"(?P<name>.+?)[\s,:]+(?P<number>\d+)")


def read_lines(path: Path) -> list[str]:
    """The lines that are not empty, without outer spaces. UserError if it is not UTF-8 text."""
    with user_errors():
        return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def split_name(path: Path) -> str | None:
    """The split that a list's file name speaks of: `hmdb51_val_split_2_videos` -> `val2`."""
    name = path.stem.lower()
    kind = re.search(r"(?<![a-z])(?:train|val|test)", name)
    number = re.search(r"split_?0*(\d+)|(?<![a-z])(?:train|val|test)[a-z_]*?0*(\d+)$", name)
    return kind[0] + ((number[1] or number[2]) if number else "") if kind else None


# ---- mmaction2: `path label`, and `frame_folder total_frames label` ----


def read_mmaction2(videos: Videos, files: Sequence[Path], names: Path | None) -> Found:
    """Labels from 0. `names`: the class names' file; by default one beside the lists, else the
    names of the videos' folders, if each class has its own."""
    lists: dict[str, tuple[Path, list[tuple[str, int, int | None]]]] = {}
    beside = [one for pattern in NAME_FILES for one in files if one.match(pattern)]
    for file in files:
        is_list = file.suffix.lower() == ".txt" and file not in (*beside, names)
        split = split_name(file) if is_list else None
        if split is None:
            continue
        if split in lists:
            raise UserError(
                f"{lists[split][0].name} and {file.name} are both for {split}: give the files that "
                "are meant, each with --lists"
            )
        lists[split] = file, [_mmaction2_line(line, file) for line in read_lines(file)]
    if not lists:
        raise UserError("no list whose name says train, val or test; give the files with --lists")
    entries = [entry for _, own in lists.values() for entry in own]
    if not entries:
        raise UserError(f"no line in {', '.join(str(file) for file, _ in lists.values())}")
    names = names or next(iter(beside), None)
    classes = _class_names(names, entries)
    find, other_lengths = Finder(videos, (path for path, _, _ in entries)), []
    found: dict[str, list[Item]] = {}
    for split, (_, own) in lists.items():
        found[split] = []
        for listed, label, frames in own:
            path = find(listed, split)
            if path is None:
                continue
            if frames is not None and _frames(videos, path) not in (None, frames):
                other_lengths.append(path)
            found[split].append(Item(path, label))
    notes = find.notes(found)
    labels = {label for _, label, _ in entries}
    if unlisted := [name for label, name in enumerate(classes) if label not in labels]:
        notes.append(f"{len(classes)} classes, no list has a video of {some(unlisted)}")
    if other_lengths:
        notes.append(f"not as many frames as listed, all are read: {some(other_lengths)}")
    read = {file for file, _ in lists.values()} | ({names} if names else set())
    return Found(tuple(classes), found, tuple(notes), read=frozenset(read))


def _mmaction2_line(line: str, file: Path) -> tuple[str, int, int | None]:
    """(path, label, frames of a frame folder or None for a video)."""
    line = line.replace("\\", "/")  # of Windows
    parts = line.rsplit(maxsplit=2)
    numbers = [int(part) if part.isdecimal() else None for part in parts[1:]]
    if len(parts) > 1 and numbers[-1] is not None:
        is_video = line.rsplit(maxsplit=1)[0].lower().endswith(VIDEO_SUFFIXES)
        if is_video or numbers[0] is None or len(parts) == 2:
            return line.rsplit(maxsplit=1)[0], numbers[-1], None
        if not parts[0].lower().endswith(VIDEO_SUFFIXES):
            return parts[0], numbers[-1], numbers[0]
    raise UserError(f"{file}: {line!r} is neither `video label` nor `folder frames label`")


def _frames(videos: Videos, path: str) -> int | None:
    try:
        return len(frame_files(videos.folder / path)) if path in videos.frames else None
    except DecodingError:  # `tcclip data check --decode` says why
        return None


def _class_names(file: Path | None, entries: Sequence[tuple[str, int, int | None]]) -> list[str]:
    labels = {label for _, label, _ in entries}
    count, counted = max(labels) + 1, "" if 0 in labels else "; are the labels counted from 1?"
    if file is not None:
        names = read_names(file)
        if len(names) > count and names[0].lower() in HEADERS:
            raise UserError(
                f"{file}: {len(names)} names for the labels 0 to {count - 1}, and the first, "
                f"{names[0]!r}, looks like a header; delete that line"
            )
        if len(names) < count:
            raise UserError(
                f"{file}: {len(names)} names, but there is a label {count - 1}{counted}"
            )
        return names
    folders: dict[int, set[str]] = defaultdict(set)
    for path, label, _ in entries:
        folders[label].add(PurePosixPath(path).parent.name)
    names = [next(iter(folders[label])) for label in sorted(folders) if len(folders[label]) == 1]
    if len(names) < count or len(set(names)) < count or not all(names):
        raise UserError(
            "the lists do not say how the classes are called: give a file with --names" + counted
        )
    return names


def read_names(file: Path) -> list[str]:
    """Class names from a CSV, a JSON or a text file with a name a line.

    Its lines may be numbered, before or after the names and in any order, below a header. UserError
    if only some are, or a number is missing or twice.
    """
    if file.suffix.lower() in (".csv", ".json"):
        return read_class_names(file)
    lines = read_lines(file)
    for pattern in NUMBERED:
        found = [re.fullmatch(pattern, line) for line in lines]
        names = sorted((int(match["number"]), match["name"]) for match in found if match)
        numbers, total = [number for number, _ in names], len(names)
        # A name may hold a number, too: `100 meter dash`, `level 1`.
        distinct = len({name for _, name in names}) == total
        whole = numbers in (list(range(total)), list(range(1, total + 1))) and all(found[1:])
        if total and whole and (distinct or pattern == NUMBERED[0]):
            return [name for _, name in names]
        if distinct and 2 * total > len(lines):
            raise UserError(
                f"{file}: {total} of its {len(lines)} lines are numbered "
                f"({', '.join(map(str, numbers[:5]))}{', ...' if total > 5 else ''}); allowed are "
                "lines without numbers, or each number from 0 or 1 on once. Mend them, or give the "
                "names as CSV with --names: a first line `id,name`, ids from 0"
            )
    return lines


# ---- UCF101 and HMDB51, official ----


def read_ucf101(videos: Videos, files: Sequence[Path]) -> Found:
    """classInd.txt (`1 ApplyEyeMakeup`), trainlist01.txt (`Class/v.avi 1`), testlist01.txt without
    labels: there the folder says the class."""
    by_name = {file.name: file for file in files}
    if "classInd.txt" not in by_name:
        raise UserError("UCF101's lists need classInd.txt beside them")
    classes = read_names(by_name["classInd.txt"])
    ids = {name: label for label, name in enumerate(classes)}
    entries = {
        (match[1] + match[2], file): [_ucf101_line(line) for line in read_lines(file)]
        for name, file in sorted(by_name.items())
        if (match := re.fullmatch(r"(train|test)list0*(\d+)\.txt", name.lower()))
    }
    find = Finder(videos, (path for lines in entries.values() for path, _ in lines))
    lists = {}
    for (split, file), lines in entries.items():
        items = []
        for path, number in lines:
            folder = path.split("/")[0]
            label = ids.get(folder)
            if label is None or number not in ("", str(label + 1)):
                line = f"{path} {number}".strip()
                raise UserError(f"{file}: {line!r} does not agree with classInd.txt")
            if (found := find(path)) is not None:
                items.append(Item(found, label))
        lists[split] = items
    lists = _by_number(lists)
    read = frozenset((by_name["classInd.txt"], *(file for _, file in entries)))
    return Found(tuple(classes), lists, tuple(find.notes(lists)), read=read)


def _ucf101_line(line: str) -> tuple[str, str]:
    """(path, label or ""); folders may have spaces in their names."""
    path, *number = line.rsplit(maxsplit=1)
    return (path, number[0]) if number and number[0].isdecimal() else (line, "")


def read_hmdb51(videos: Videos, files: Sequence[Path]) -> Found:
    """CLASS_test_split1.txt: `video.avi 1`, with 1 for training, 2 for testing, 0 for neither."""
    tables = {
        (match[1], match[2]): file
        for file in sorted(files)
        if (match := re.fullmatch(r"(.+)_test_split(\d)\.txt", file.name))
    }
    classes = sorted({name for name, _ in tables})
    entries: list[tuple[str, str, str]] = []  # class, path, list
    unused = Counter[str]()
    for (name, number), file in tables.items():
        for line in read_lines(file):
            *video, use = line.rsplit(maxsplit=1)
            if use not in ("0", "1", "2") or not video:
                raise UserError(f"{file}: {line!r} is not `video.avi 0`, 1 or 2")
            if use == "0":
                unused[number] += 1
            else:
                split = f"{'train' if use == '1' else 'test'}{number}"
                entries.append((name, f"{name}/{video[0]}", split))
    find = Finder(videos, (path for _, path, _ in entries))
    lists: dict[str, list[Item]] = defaultdict(list)
    for name, listed, split in entries:
        if (path := find(listed, name)) is not None:
            lists[split].append(Item(path, classes.index(name)))
    notes = find.notes(lists)
    notes += [f"split {number}: {n} videos in neither list" for number, n in unused.items()]
    read = frozenset(tables.values())
    return Found(tuple(classes), _by_number(lists), tuple(notes), read=read)


def _by_number(lists: dict[str, list[Item]]) -> dict[str, list[Item]]:
    """train1, test1, train2, ..."""
    order = sorted(lists, key=lambda name: (name[-1], name.startswith("test")))
    return {name: lists[name] for name in order}
