"""`tcclip data init`: from a folder of videos to the YAML file and the lists of an own data set."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import protocols
from experiments.datasets.own.class_folders import read_class_folders
from experiments.datasets.own.drawing import SPLITS, few_shot, stratified
from experiments.datasets.own.foreign_lists import read_hmdb51, read_mmaction2, read_ucf101
from experiments.datasets.own.foreign_tables import is_kinetics, read_kinetics, read_ssv2
from experiments.datasets.own.videos import Found, Videos, scan, some
from experiments.datasets.own.yaml_file import FILE_NAME, LISTS, NAME, read_own
from experiments.errors import UserError
from experiments.store.files import write_text
from protocols.datasets import DATASETS
from tcclip.data.annotations import Item
from tcclip.text_files import dump_yaml

#: Words of classes that a mirror turns into each other.
SIDED = {"left", "right", "clockwise", "counterclockwise", "anticlockwise"}
#: Of a class's videos: train, val, test.
SHARES = (0.7, 0.15, 0.15)
#: How the videos' classes are known; beside class folders, by lists of these forms.
Form = Literal["folders", "mmaction2", "kinetics", "ucf101", "hmdb51", "ssv2"]

#: What the files of other projects are called, or have in them.
LISTS_OF: dict[Form, str] = {
    "mmaction2": "called NAME.txt, with train, val or test in the name",
    "kinetics": "CSV files with the columns youtube_id, time_start, time_end between commas",
    "ucf101": "classInd.txt, trainlist01.txt, testlist01.txt, ...",
    "hmdb51": "CLASS_test_split1.txt, ...",
    "ssv2": "labels.json, train.json, validation.json",
}


@dataclass(frozen=True)
class Request:
    """What is wanted. `folder`: the videos; `to`: where files are written, by default there.

    `form` None: of the `lists` given, else class folders. `lists`: files or folders of another
    project's lists; `names`: class names for mmaction2's. `shares`: of train, val and test, for
    videos that are in no list yet, by default `SHARES`. `shots` None: the published ones that
    there are videos for.
    """

    folder: Path
    to: Path | None = None
    name: str | None = None
    form: Form | None = None
    lists: tuple[Path, ...] = ()
    names: Path | None = None
    shares: tuple[float, ...] | None = None
    shots: tuple[int, ...] | None = None
    seed: int = 0
    force: bool = False


@dataclass(frozen=True)
class Written:
    """`file`: the YAML file. `lists`: split -> videos; `notes`: what was left out or is missing."""

    file: Path
    name: str
    classes: int
    lists: dict[str, int]
    notes: tuple[str, ...]

    @property
    def commands(self) -> list[str]:
        """What can be done with the data set, in batches that its lists fill."""
        file = shlex.quote(str(self.file))
        found = [f"tcclip data check --dataset-file {file} --decode 10"]
        if not any(re.fullmatch(r"(val|test)\d*", name) for name in self.lists):
            return found
        for protocol, lists in (("few_shot", r"train_\d+shot"), ("fully_supervised", "train1?")):
            train = protocols.get(protocol).train
            videos = {name: n for name, n in self.lists.items() if re.fullmatch(lists, name)}
            # Those that fill a group whose videos are mixed.
            enough = {name: n for name, n in videos.items() if n >= train.mix.group}
            if enough:
                least, more = min(enough.values()), ""
                if len(enough) < len(videos):
                    more = " --shots " + ",".join(re.sub(r"\D", "", name) for name in enough)
                if least < train.global_batch:
                    batch = least // train.mix.group * train.mix.group
                    more += f" --set train.global_batch={batch}"
                found.append(f"tcclip sweep {protocol} --dataset-file {file}{more}")
        return [*found, f"tcclip evaluate zero_shot --dataset-file {file} --checkpoint FILE"]


def init(request: Request) -> Written:
    """Write the data set's files. UserError for what cannot be done, also if they are there."""
    folder = request.folder.expanduser().absolute()
    to = folder if request.to is None else request.to.expanduser().absolute()
    name = _name(request.name, folder)
    file = to / FILE_NAME
    existing = [path for path in (file, to / LISTS) if path.exists()]
    if existing and not request.force:
        raise UserError(f"{existing[0]} is already there; --force writes over it")
    found = _find(request, folder)
    lists, notes = _lists(request, found)
    if sided := [one for one in found.classes if SIDED & set(_words(one))]:
        found = replace(found, flip=False)
        notes.append(f"flip: false, since a mirrored clip may show another class: {some(sided)}")
    _write(to, folder, name, found, lists)
    return Written(
        file, name, len(found.classes), {split: len(items) for split, items in lists.items()},
        (*found.notes, *notes),
    )  # fmt: skip


def _words(name: str) -> list[str]:
    """`SwipeLeft`, `swipe_left` -> swipe, left."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _name(given: str | None, folder: Path) -> str:
    name = given or re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name).strip("_.-")
    if not re.fullmatch(NAME, name):
        raise UserError(
            f"{name!r} is no name for a data set: give one of letters and digits with --name"
        )
    if name in DATASETS:
        raise UserError(f"{name} is a published data set: give yours another name with --name")
    return name


def _find(request: Request, folder: Path) -> Found:
    files = _list_files(request.lists or ((folder,) if request.form else ()))
    form = request.form or (_recognise(files) if request.lists else "folders")
    if request.names is not None and form != "mmaction2":
        raise UserError(f"--names is for mmaction2's lists; {form} names its classes itself")
    if form == "folders" and request.lists:
        raise UserError("--lists: class folders need none; leave it out, or give the lists' form")
    if form == "folders":
        return read_class_folders(folder)
    readers: dict[str, Callable[[Videos, Sequence[Path]], Found]] = {
        "mmaction2": lambda videos, files: read_mmaction2(videos, files, request.names),
        "kinetics": read_kinetics,
        "ucf101": read_ucf101,
        "hmdb51": read_hmdb51,
        "ssv2": read_ssv2,
    }
    found = readers[form](scan(folder), files)
    return replace(found, notes=(*found.notes, *_not_read(request, form, files, found)))


def _not_read(request: Request, form: Form, files: Sequence[Path], found: Found) -> list[str]:
    """What is to be said of files that may be lists and were not read. UserError for one that was
    named itself."""
    others = [file for file in files if file not in found.read and file != request.names]
    named = [file for file in others if file in (request.lists or ())]
    if named:
        raise UserError(
            f"--lists {named[0]} was not read: {form}'s lists are {LISTS_OF[form]}; rename it, or "
            "leave it out"
        )
    names = [one.name for one in others if one.suffix.lower() in (".txt", ".csv", ".json", ".lst")]
    return [f"not read, no list of {form} ({LISTS_OF[form]}): {some(names)}"] if names else []


def _list_files(places: Sequence[Path]) -> list[Path]:
    """The files given, and those in the folders given."""
    files: list[Path] = []
    for place in places:
        if not place.exists():
            raise UserError(f"--lists {place} is not there")
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        files += [file for file in inside if file.is_file()]
    return files


def _recognise(files: Sequence[Path]) -> Form:
    """The form of lists, by their names and headers."""
    names = {file.name for file in files}
    endings = {file.suffix for file in files}
    if "classInd.txt" in names and any(re.match(r"(train|test)list\d", name) for name in names):
        return "ucf101"
    if any(re.search(r"_test_split\d\.txt$", name) for name in names):
        return "hmdb51"
    if any(is_kinetics(file) for file in files):
        return "kinetics"
    if any(name.endswith("labels.json") for name in names):
        return "ssv2"
    if ".txt" in endings:
        return "mmaction2"
    known = ", ".join(get_args(Form)[1:])
    raise UserError(f"--lists: not the lists of any form that is known: {known}")


def _lists(request: Request, found: Found) -> tuple[dict[str, list[Item]], list[str]]:
    """All lists of the data set, and notes."""
    lists = dict(found.lists)
    if "" in lists:
        lists |= stratified(lists.pop(""), _shares(request.shares or SHARES), request.seed)
    elif request.shares is not None:
        raise UserError(f"--shares: the videos are already in the lists {', '.join(lists)}")
    notes: list[str] = []
    train = next((lists[name] for name in ("train", "train1") if name in lists), None)
    if train is not None:
        drawn, notes = few_shot(train, found.classes, request.shots, request.seed)
        lists |= drawn
        there = {name.rstrip("0123456789") for name in lists}
        if not there & {"val", "test"}:
            notes.append("no val or test list: there is nothing to test on")
        elif "val" not in there:
            notes.append("no val list: a run's epoch is selected on its test list (SPEC 4)")
    elif request.shots is not None:
        raise UserError("--shots: there is no training list to draw few-shot lists from")
    empty = [name for name, items in lists.items() if not items]
    if empty:
        raise UserError(f"nothing is left of the list {empty[0]}; notes: {'; '.join(found.notes)}")
    return lists, notes


def _shares(given: Sequence[float]) -> dict[str, float]:
    wrong = len(given) != len(SPLITS) or min(given) < 0 or abs(sum(given) - 1) > 1e-6
    if wrong:
        shares = ",".join(f"{share:g}" for share in given)
        raise UserError(f"--shares {shares}: give those of train, val and test, which make up 1")
    return dict(zip(SPLITS, given, strict=True))


def _write(
    to: Path, folder: Path, name: str, found: Found, lists: Mapping[str, Sequence[Item]]
) -> None:
    """Lists and class names first: a YAML file that is there is complete."""
    names = io.StringIO()
    rows = csv.writer(names, lineterminator="\n")
    rows.writerows([("id", "name"), *enumerate(found.classes)])
    write_text(to / LISTS / "labels.csv", names.getvalue())
    for split, items in lists.items():
        lines = [f"{item.path} {item.label}\n" for item in items]
        write_text(to / LISTS / f"{split}.txt", "".join(lines))
    content = {
        "name": name,
        "videos": "." if to == folder else str(folder),
        "labels": f"{LISTS}/labels.csv",
        **({} if found.flip else {"flip": False}),
        "splits": {split: f"{LISTS}/{split}.txt" for split in lists},
    }
    write_text(to / FILE_NAME, dump_yaml(content))
    read_own(to / FILE_NAME)  # what was written can be read
