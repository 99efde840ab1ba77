"""Videos whose classes are known: a list in a file, or a run's validation list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import find_videos
from experiments.errors import ListsChanged, MissingData, UserError
from experiments.inference.classes import first_names
from tcclip.data.annotations import Item, read_list
from tcclip.data.seeding import seeded_rng

if TYPE_CHECKING:
    from experiments.grid.spec import RunSpec


@dataclass(frozen=True)
class KnownVideos:
    """`names`: what the items' labels stand for. `locate`: from a list's path to the file;
    `title`: what the list is called."""

    items: Sequence[Item]
    names: tuple[str, ...]
    locate: Callable[[str], Path]
    title: str

    def drawn(self, limit: int | None) -> KnownVideos:
        """At most so many of them, the same ones each time."""
        if limit is None or limit >= len(self.items):
            return self
        chosen = seeded_rng("calibration", limit).permutation(len(self.items))[:limit]
        return replace(self, items=[self.items[i] for i in sorted(chosen)])


def of_file(
    list_file: Path, folder: Path | None, labels: Path | None, own: tuple[str, ...]
) -> KnownVideos:
    """The videos of a list, below `folder`, by default the list's. `own`: the model's classes.

    MissingData if none of the videos is there.
    """
    names = own if labels is None else tuple(first_names(labels))
    items = read_list(list_file, len(names))
    folder = list_file.parent if folder is None else folder
    found = find_videos(folder, [item.path for item in items], loose=False)
    if not found.files:
        raise MissingData(f"no video of {list_file} is in {folder}; correct --videos")
    return KnownVideos(items, names, found.locate, str(list_file))


def of_run(spec: RunSpec, paths: DataPaths) -> KnownVideos:
    """The validation list of a run. MissingData if the list or its videos are not there,
    ListsChanged if it is a user's own that has changed since the run was planned."""
    one, data = spec.validation[0], paths.dataset(spec.validation[0].dataset)
    folder = paths.annotation_folder(data)
    for name in (one.label_file, one.split.annotations):
        if not (folder / name).is_file():
            raise MissingData(f"{one.dataset}: {folder / name} is not there; see --annotations")
    if one.digest not in (None, one.with_digest(data, spec.train.epochs > 0).digest):
        raise ListsChanged(
            f"{folder / one.split.annotations} or {one.label_file} has changed since the run was "
            "planned; put the files back, or give --list FILE --videos FOLDER"
        )
    names = tuple(first_names(folder / one.label_file, one.labels.classes))
    items = read_list(folder / one.split.annotations, len(names))
    found = paths.find_videos(one.dataset, [item.path for item in items])
    if not found.files:
        raise MissingData(f"{one.dataset}: none of the list's videos is in {found.folder}")
    return KnownVideos(items, names, found.locate, f"{one.dataset} {one.split.name}")


def checked(spec: RunSpec | None, checkpoint: str) -> RunSpec:
    """UserError if there is no run that would say what to calibrate on."""
    if spec is None or not spec.validation:
        raise UserError(
            f"{checkpoint} is no run whose validation list is known; give --list FILE --videos "
            "FOLDER"
        )
    return spec
