"""A user's own data set from a small YAML file, without code.

name: gestures
title: My gestures            # optional
videos: /data/gestures        # folder; relative paths start at this file's folder
labels: labels.csv            # or {all: labels.csv, novel: novel.csv}
flip: false                   # optional: does a mirrored clip keep its class? (true)
splits:
  train_4shot: train4.txt     # or {annotations: novel.txt, labels: novel}
  val: val.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from experiments.errors import MissingData, UserError
from experiments.grid.grid_file import read_yaml
from protocols.datasets import DATASETS, Dataset, LabelSet, Split
from tcclip.config import FrozenModel
from tcclip.data.annotations import (
    AnnotationError,
    content_digest,
    read_class_names,
    read_list,
)

#: Names of data sets and splits become part of run ids and file names.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
T = TypeVar("T", bound=FrozenModel)


class OwnSplit(FrozenModel):
    """A list, and the label set that its ids belong to."""

    annotations: str
    labels: str = "all"


class OwnFile(FrozenModel):
    """The YAML file's content."""

    name: str = Field(pattern=NAME)
    title: str | None = None
    videos: Path
    labels: str | dict[str, str]
    flip: bool = True
    splits: dict[Annotated[str, Field(pattern=NAME)], str | OwnSplit]


class OwnData(FrozenModel):
    """A user's data set and its folders, absolute."""

    dataset: Dataset
    annotations: Path
    videos: Path


def read_own(path: Path) -> OwnData:
    """The data set that `path` describes. UserError says what is wrong with the file."""
    content = read_settings(path, OwnFile)
    if content.name in DATASETS:
        raise UserError(f"{path}: the name {content.name!r} is taken; choose another")
    folder = path.absolute().parent
    named = {"all": content.labels} if isinstance(content.labels, str) else content.labels
    try:
        names = {file: read_class_names(folder / file) for file in named.values()}
        labels = tuple(
            LabelSet(name=name, file=file, classes=len(names[file])) for name, file in named.items()
        )
        digests = {file: content_digest(content) for file, content in names.items()}
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
    except (AnnotationError, ValidationError) as error:
        raise UserError(f"{path}: {error}") from error
    return OwnData(dataset=dataset, annotations=folder, videos=folder / content.videos.expanduser())


def _split(
    folder: Path,
    name: str,
    one: str | OwnSplit,
    labels: tuple[LabelSet, ...],
    digests: dict[str, str],
) -> Split:
    """The split; the digest of its list is added to `digests`."""
    split = OwnSplit(annotations=one) if isinstance(one, str) else one
    classes = next((known.classes for known in labels if known.name == split.labels), None)
    videos = read_list(folder / split.annotations, classes)
    digests[split.annotations] = content_digest(videos)
    return Split(name=name, annotations=split.annotations, labels=split.labels, videos=len(videos))


def read_settings(path: Path, kind: type[T]) -> T:
    """A YAML file's content as `kind`. UserError says what is wrong with the file."""
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {error}") from error
