"""From a data set to its pack: which videos, and what there is to say of them afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from experiments.datasets.pack.pack import pack
from experiments.datasets.pack.record import PackedFile, file_name, plain_name, read_pack
from experiments.datasets.paths import DataPaths
from experiments.datasets.video_files import first_few
from experiments.errors import MissingData, UserError
from protocols.datasets import Dataset, Pack
from tcclip.data.annotations import read_list
from tcclip.data.decode.images.packed_video import ENDING

#: Videos that a note names.
NAMED = 3


class PackReport(NamedTuple):
    """A complete pack. `missing`: listed videos that are not there. `source_bytes`: of the others.

    `notes`: lists that are not there, videos that may have changed since they were packed.
    """

    dataset: str
    folder: Path
    pack: Pack
    files: dict[str, PackedFile]
    missing: dict[str, str]
    source_bytes: int
    notes: list[str]


def pack_dataset(
    name: str,
    paths: DataPaths,
    to: Path,
    settings: Pack,
    workers: int | None,
    progress: Callable[[str, int, int], None],
) -> PackReport:
    """Pack every video in the lists of data set `name` that are there, into the folder `to`/`name`.

    UserError for what cannot be packed.
    """
    data = paths.datasets().get(name)
    if data is None:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(paths.datasets())}")
    source, folder = paths.video_folder(data), to / name
    if data.pack is not None:
        raise UserError(f"{source} is a pack already ({data.pack}); say where the videos are")
    if folder.resolve() == source.resolve() or folder.resolve() in source.resolve().parents:
        raise UserError(f"{folder} is where the videos are; give another folder with --to")
    listed, notes = _listed(data, paths)
    found = paths.find_videos(name, listed, lambda *done: progress("find", *done))
    if not found.files:
        raise MissingData(f"{name}: none of {len(listed)} listed videos is in {source}")
    videos = {plain_name(path): found.locate(path) for path in found.files}
    if newer := sorted(one for one, file in videos.items() if _is_newer(file, folder, one)):
        notes.append(
            f"{name}: packed before the video was last written: {first_few(newer, NAMED)}; if it "
            f"shows something else now, delete NAME{ENDING} in {folder} and give the command again"
        )
    files = pack(
        videos,
        folder,
        settings,
        workers=workers or len(os.sched_getaffinity(0)),
        progress=lambda *done: progress("pack", *done),
    )
    made = read_pack(folder)
    assert made is not None
    size = sum(file.size for file in found.files.values())
    return PackReport(name, folder, made, files, found.missing, size, notes)


def _is_newer(video: Path, folder: Path, name: str) -> bool:
    """Whether the video was written after its frames in the pack; a copy of all files is, too."""
    packed = folder / file_name(name)
    return packed.is_file() and video.stat().st_mtime > packed.stat().st_mtime


def _listed(data: Dataset, paths: DataPaths) -> tuple[list[str], list[str]]:
    """The entries of all lists, and which lists are not there. MissingData if none is."""
    folder, entries, notes = paths.annotation_folder(data), dict[str, None](), []
    for split in data.splits:
        try:
            entries |= dict.fromkeys(item.path for item in read_list(folder / split.annotations))
        except FileNotFoundError:
            notes.append(f"{data.name} {split.name}: no list {folder / split.annotations}")
    if not entries:
        raise MissingData(f"{data.name}: none of its lists is in {folder}")
    return list(entries), notes
