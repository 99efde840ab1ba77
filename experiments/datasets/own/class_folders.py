"""A folder of class folders as a data set, also one that is split in train/, val/ and test/."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from unicodedata import normalize

from experiments.datasets.own.videos import Found, Videos, scan, some
from experiments.datasets.own.yaml_file import LISTS
from experiments.errors import UserError
from tcclip.data.annotations import Item

#: How splits are called: folders of them, and in tables.
SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val",
    "validation": "val", "dev": "val", "eval": "val", "test": "test", "testing": "test",
}  # fmt: skip


def read_class_folders(folder: Path) -> Found:
    """The data set of FOLDER/CLASS/... or FOLDER/SPLIT/CLASS/...; a class is called as its folder.

    Its id is its place in the alphabet. UserError if that is not how the folder is organised.
    """
    videos = scan(folder).without_stray_images()
    splits = _split_folders(videos)
    #: Split -> (path, class); "" for videos that are in no split.
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    #: Class -> folders in its folder that hold its videos; "" for the class folder itself.
    below: dict[str, set[str]] = defaultdict(set)
    loose, class_folders = [], set()
    for path in videos.paths:
        top, *inside = path.split("/")
        split, parents = (splits[top], inside[:-1]) if splits else ("", path.split("/")[:-1])
        if not parents:
            loose.append(path)
            continue
        class_folders.add(parents[0])
        found[split].append((path, normalize("NFC", parents[0])))
        below[normalize("NFC", parents[0])].add(parents[1] if parents[1:] else "")
    if not found:
        raise UserError(
            f"{folder}: its {len(videos.paths)} videos are in no class folders; sort them into one "
            "folder a class, or give lists with --lists"
        )
    classes = sorted({name for items in found.values() for _, name in items})
    for name in classes:
        if not re.search(r"[^\W_]", name):
            raise UserError(f"{folder}: a class folder is called {name!r}; give it a class's name")
    notes = [*videos.notes, *_only_folders(folder, below, split=bool(splits))]
    if empty := _empty_folders(folder, splits, class_folders):
        notes.append(f"left out, folders without a video: {some(empty)}")
    if loose:
        notes.append(f"left out, in no class folder: {some(loose)}")
    ids = {name: number for number, name in enumerate(classes)}
    lists = {
        split: [Item(path, ids[name]) for path, name in found[split]]
        for split in dict.fromkeys(("", *SPLIT_FOLDERS.values()))
        if split in found
    }
    return Found(tuple(classes), lists, tuple(notes))


def _only_folders(folder: Path, below: Mapping[str, set[str]], *, split: bool) -> list[str]:
    """A note if no class folder holds a video itself: the classes may be the folders in them.

    UserError if there is one class folder alone.
    """
    if any("" in inside for inside in below.values()):
        return []
    if len(below) > 1:
        return [
            f"all class folders hold folders only: {some(sorted(below))}; if the classes are the "
            f"folders in them, {some(sorted(set().union(*below.values())))}, sort the videos into "
            "one folder a class"
        ]
    ((name, inside),) = below.items()
    remedy = "move them one level up" if split else f"give {folder / name} instead"
    raise UserError(
        f"{folder}: the only class folder is {name}, and it holds folders only: "
        f"{some(sorted(inside))}. If these are the classes or splits, {remedy}; if they are one "
        f"class, put their videos right into {name}"
    )


def _split_folders(videos: Videos) -> dict[str, str]:
    """Folder -> split, if the folder is split; UserError if it is so in part."""
    tops = {path.split("/")[0] for path in videos.paths if "/" in path}
    splits = {top: SPLIT_FOLDERS[top.lower()] for top in tops if top.lower() in SPLIT_FOLDERS}
    names = ", ".join(sorted(splits))
    if len(splits) > 1 and set(splits) != tops:
        raise UserError(
            f"{videos.folder} has the folders {names} beside {some(sorted(tops - set(splits)))}: "
            "put either class folders or splits into it"
        )
    deep = sorted(
        {path.split("/")[0] for path in videos.paths if path.count("/") > 1} & set(splits)
    )
    if deep and set(splits) != tops:
        raise UserError(
            f"{videos.folder} has the folder {deep[0]}, with folders of videos in it, beside "
            f"{some(sorted(tops - set(splits)))}: if it is a split, call the others train, val or "
            "test, or move them away; if it is a class, put its videos right into it"
        )
    if len(set(splits.values())) < len(splits):
        raise UserError(f"{videos.folder}: two of {names} are the same split")
    return splits if set(splits) == tops else {}


def _empty_folders(folder: Path, splits: Iterable[str], used: Collection[str]) -> list[str]:
    """Folders where classes are expected, but without a video."""
    return [
        place.relative_to(folder).as_posix()
        for base in ([folder / split for split in splits] or [folder])
        for place in sorted(base.iterdir())
        if place.is_dir() and place.name not in (LISTS, *used) and not place.name.startswith(".")
    ]
