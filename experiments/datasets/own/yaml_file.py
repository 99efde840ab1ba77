"""A user's own data set from a small YAML file, without code; `tcclip data init` writes one.

name: gestures
title: My gestures            # optional
videos: /data/gestures        # folder; relative paths start at this file's folder
labels: labels.csv            # or {all: labels.csv, novel: novel.csv}, or JSON {"0": "wave"};
                              # of {"0": ["wave", "hello"]}, training uses the first name, tests
                              # average the logits of all
llm: llm.json                 # optional: other names for variant llm; or {all: ..., novel: ...}
flip: false                   # optional: does a mirrored clip keep its class? (true)
splits:                       # their names say what they are for: protocols/own_data.py
  train_4shot: train4.txt     # or {annotations: novel.txt, labels: novel}
  val: val.txt
  test: test.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from experiments.errors import MissingData, UserError, user_errors
from protocols.datasets import DATASETS, Dataset, LabelSet, Split
from tcclip.config import FrozenModel
from tcclip.data.annotations import (
    content_digest,
    read_all_names,
    read_list,
)
from tcclip.text_files import FileError, mistake, read_yaml

#: Names of data sets and splits become part of run ids and file names.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
#: Titles stand in tables: one line.
TITLE = r"^\S[^\x00-\x1f\x7f-\x9f]{0,99}$"
#: What `tcclip data init` calls the file it writes into a folder.
FILE_NAME = "dataset.yaml"
#: Its folder for lists and class names, beside that file.
LISTS = "dataset_lists"


class OwnSplit(FrozenModel):
    """A list, and the label set that its ids belong to.

    By default "all", or the one that begins the split's name: base, novel; needed if both are.
    """

    annotations: str
    labels: str | None = None


class OwnFile(FrozenModel):
    """The YAML file's content."""

    name: str = Field(pattern=NAME)
    title: str | None = Field(default=None, pattern=TITLE)
    videos: Path
    labels: str | dict[str, str]
    llm: str | dict[str, str] = Field(default_factory=dict)
    flip: bool = True
    splits: dict[Annotated[str, Field(pattern=NAME)], str | OwnSplit] = Field(min_length=1)


class OwnData(FrozenModel):
    """A user's data set and its folders, absolute."""

    dataset: Dataset
    annotations: Path
    videos: Path


def own_file(path: Path) -> Path:
    """The absolute path of a YAML file; of a folder, the one that `tcclip data init` wrote.

    UserError for a folder without it.
    """
    if not path.is_dir():
        return path.absolute()
    if not (path / FILE_NAME).is_file():
        raise UserError(f"{path} is a folder without {FILE_NAME}: first `tcclip data init {path}`")
    return (path / FILE_NAME).absolute()


def read_own(path: Path) -> OwnData:
    """The data set that `path` describes. UserError says what is wrong with the file."""
    with user_errors():
        content, _ = read_yaml(path, OwnFile)
    if content.name in DATASETS:
        raise UserError(f"{path}: the name {content.name!r} is taken; choose another")
    folder = path.absolute().parent
    try:
        digests: dict[str, str] = {}
        labels = _label_sets(folder, content, digests)
        dataset = Dataset(
            name=content.name,
            title=content.title or content.name,
            splits=tuple(
                _split(folder, name, one, labels, digests) for name, one in content.splits.items()
            ),
            label_sets=labels,
            flip=content.flip,
            digests=digests,
        )
    except FileNotFoundError as error:
        raise MissingData(f"{path}: {error.filename} is not there") from error
    except OSError as error:
        raise UserError(f"{path}: {error.filename} cannot be read: {error.strerror}") from error
    except FileError as error:
        raise UserError(f"{path}: {error}") from error
    except ValidationError as error:
        found = "; ".join(map(mistake, error.errors(include_url=False)))
        raise UserError(f"{path}: {found}") from error
    return OwnData(dataset=dataset, annotations=folder, videos=folder / content.videos.expanduser())


def _label_sets(folder: Path, content: OwnFile, digests: dict[str, str]) -> tuple[LabelSet, ...]:
    """The label sets; the digests of their files are added to `digests`."""
    named, llm = (
        {"all": given} if isinstance(given, str) else given
        for given in (content.labels, content.llm)
    )
    for name in llm:
        if name not in named:
            raise FileError(f"llm: no label set {name!r}; there are: {', '.join(named)}")
    sets = []
    for name, file in named.items():
        names = read_all_names(folder / file)
        digests[file] = content_digest(names)
        if name in llm:
            digests[llm[name]] = content_digest(read_all_names(folder / llm[name], len(names)))
        sets.append(LabelSet(name=name, file=file, classes=len(names), llm=llm.get(name)))
    return tuple(sets)


def _split(
    folder: Path,
    name: str,
    one: str | OwnSplit,
    labels: tuple[LabelSet, ...],
    digests: dict[str, str],
) -> Split:
    """The split; the digest of its list is added to `digests`."""
    split = OwnSplit(annotations=one) if isinstance(one, str) else one
    known = {one.name: one.classes for one in labels}
    begins = name.partition("_")[0]
    if split.labels is None and "all" in known and begins in known and begins != "all":
        raise FileError(
            f"split {name}: its ids may be those of the labels all or of {begins}; say which: "
            f"{name}: {{annotations: {split.annotations}, labels: {begins}}}"
        )
    label_set = split.labels or (begins if begins in known else "all")
    if label_set not in known:
        wanted = split.labels or " or ".join(dict.fromkeys((begins, "all")))
        raise FileError(
            f"split {name}: its ids need a label set {wanted}, and labels has "
            f"{', '.join(known) or 'none'}; "
            f"add it, or say which it is: {name}: {{annotations: {split.annotations}, labels: ...}}"
        )
    videos = read_list(folder / split.annotations, known[label_set])
    digests[split.annotations] = content_digest(videos)
    return Split(name=name, annotations=split.annotations, labels=label_set, videos=len(videos))
