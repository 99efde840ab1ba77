"""Where annotation lists and videos are on this machine. Never part of a run's identity.

A folder is taken from the command line, else from the environment (TCCLIP_DATA_ROOT,
TCCLIP_ANNOTATIONS), else from the user's config file:

    data_root: /data/videos             # has one folder a data set: k400/, hmdb51/, ...
    annotations: /data/annotations      # has datasets_splits/ and labels/
    folders: {ucf101: /other/UCF-101}   # a data set that is elsewhere
    datasets: [gestures.yaml]           # own data sets; relative paths start at this file
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from experiments.datasets.own.yaml_file import OwnData, own_file, read_own
from experiments.datasets.pack.record import is_pack, read_pack
from experiments.datasets.video_files import FoundVideos, Progress, find_videos
from experiments.errors import MissingData, UserError, user_errors
from experiments.grid.spec import ListSpec
from protocols.datasets import DATASETS, Dataset
from tcclip.config import FrozenModel
from tcclip.data.cache.store import Store, limit_of
from tcclip.text_files import read_text, read_yaml


def cache_folder() -> Path:
    """Folder for what is made once: $TCCLIP_CACHE, else tcclip/ in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TCCLIP_CACHE") or Path(base) / "tcclip").absolute()


def config_file() -> Path:
    """tcclip/config.yaml in the user's config folder."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "tcclip" / "config.yaml"


class UserConfig(FrozenModel):
    """The settings that the user's config file may have."""

    data_root: Path | None = None
    annotations: Path | None = None
    folders: dict[str, Path] = Field(default_factory=dict)
    datasets: tuple[Path, ...] = ()


class DataPaths(FrozenModel):
    """Absolute folders: published annotations, data sets' videos, and the cache.

    `folders`: video folders of data sets that are not in `videos`. `own`: users' data sets;
    `given`: the names of those whose files were given with the command.
    """

    annotations: Path | None = None
    videos: Path | None = None
    cache: Path
    folders: dict[str, Path] = Field(default_factory=dict)
    own: tuple[OwnData, ...] = ()
    given: tuple[str, ...] = ()

    @classmethod
    def find(
        cls,
        data_root: Path | None = None,
        annotations: Path | None = None,
        own: Iterable[Path] = (),
    ) -> Self:
        """The folders of this machine; the arguments come before environment and config file.

        `own`: YAML files of users' data sets. UserError for a file that cannot be used.
        """
        file = config_file()
        with user_errors():
            config = read_yaml(file, UserConfig)[0] if file.exists() else UserConfig()

        def absolute(path: Path) -> Path:
            return Path(os.path.normpath(file.absolute().parent / path.expanduser()))

        with user_errors():
            given = dict.fromkeys(own_file(path) for path in own)
            files = given | dict.fromkeys(own_file(absolute(path)) for path in config.datasets)
            own_data = tuple(read_own(path) for path in files)
        for name, number in Counter(one.dataset.name for one in own_data).items():
            if number > 1:
                raise UserError(f"{number} data sets of your own are called {name!r}; rename one")
        return cls(
            annotations=_first(annotations, "TCCLIP_ANNOTATIONS", config.annotations, absolute),
            videos=_first(data_root, "TCCLIP_DATA_ROOT", config.data_root, absolute),
            cache=cache_folder(),
            folders={name: absolute(path) for name, path in config.folders.items()},
            own=own_data,
            given=tuple(one.dataset.name for one in own_data[: len(given)]),
        )

    def datasets(self) -> dict[str, Dataset]:
        """All data sets by name, users' own included, with the packs they are read from."""
        return self._datasets

    def dataset(self, name: str) -> Dataset:
        """One of `datasets`. MissingData if there is none, since an own one's file is not given."""
        if name not in self._datasets:
            raise MissingData(f"the data set {name!r} is not known: give its --dataset-file")
        return self._datasets[name]

    @cached_property
    def _datasets(self) -> dict[str, Dataset]:
        known = DATASETS | {one.dataset.name: one.dataset for one in self.own}
        return {name: self._with_pack(data) for name, data in known.items()}

    def _with_pack(self, data: Dataset) -> Dataset:
        folder = self._folder(data)
        pack = None if folder is None else read_pack(folder)
        return data if pack is None else data.model_copy(update={"pack": pack})

    def annotation_folder(self, data: Dataset) -> Path:
        """Folder that a data set's lists and label files are in. MissingData if nobody set it."""
        if data.embedded:
            from tcclip.data import moving_shapes

            return moving_shapes.ensure_built(self.cache / data.name)
        own = self._own(data)
        folder = self.annotations if own is None else own.annotations
        if folder is None:
            raise MissingData(
                f"{data.name}: no annotations folder; give --annotations or $TCCLIP_ANNOTATIONS"
            )
        return folder

    def built_meanwhile(self, names: Iterable[str]) -> AbstractContextManager[None]:
        """A block during which another process builds the embedded ones of data sets `names`."""
        for data in (self.dataset(name) for name in names):
            if data.embedded:
                from tcclip.data import moving_shapes

                return moving_shapes.building(self.cache / data.name)
        return nullcontext()

    def video_folder(self, data: Dataset) -> Path:
        """Folder that a data set's list entries are relative to. MissingData if nobody set it."""
        folder = self._folder(data)
        if data.embedded and (folder is None or not is_pack(folder)):
            return self.annotation_folder(data) / "videos"
        if folder is None:
            raise MissingData(f"{data.name}: no videos; give --data-root or $TCCLIP_DATA_ROOT")
        return folder

    def _folder(self, data: Dataset) -> Path | None:
        """The folder that is given for a data set's videos."""
        own = self._own(data)
        if own is not None:
            return own.videos
        below = None if self.videos is None else self.videos / data.name
        return self.folders.get(data.name, below)

    @property
    def frames(self) -> Path:
        """Folder of the decoded frames that are kept on this machine."""
        return self.cache / "frames"

    def frame_store(self, gigabytes: float | Literal["auto"]) -> Store | None:
        """The decoded frames that are kept, in at most so many gigabytes; None for 0."""
        limit = limit_of(self.frames, None if gigabytes == "auto" else gigabytes)
        return Store(self.frames, limit) if limit else None

    def cache_note(self, gigabytes: float | Literal["auto"]) -> str:
        """What a sweep says of its cache at the start."""
        store = self.frame_store(gigabytes)
        if store is None:
            return "decoded frames are not kept (--cache-size 0)"
        size = f"up to {store.limit / 1e9:.3g} GB"
        size += " here, half of the free disk" if gigabytes == "auto" else ""
        return f"decoded frames are kept in {store.folder}, {size} (--cache-size)"

    def list_length(self, one: ListSpec) -> int | None:
        """How many videos a list has, as published or counted; None if the file is not there."""
        if one.split.videos is not None or self.annotations is None:
            return one.split.videos
        path = self.annotations / one.split.annotations
        if not path.is_file():
            return None
        with user_errors():
            return sum(bool(line.strip()) for line in read_text(path).split("\n"))

    def find_videos(
        self, name: str, paths: Iterable[str], progress: Progress = lambda done, total: None
    ) -> FoundVideos:
        """The files of `paths`, all entries of a data set's lists. MissingData without a folder."""
        folder = self.video_folder(self.dataset(name))
        return find_videos(folder, paths, loose=name in DATASETS, progress=progress)

    def _own(self, data: Dataset) -> OwnData | None:
        return next((one for one in self.own if one.dataset.name == data.name), None)


def _first(
    option: Path | None, variable: str, configured: Path | None, absolute: Callable[[Path], Path]
) -> Path | None:
    if option is not None:
        return option.absolute()
    if os.environ.get(variable):
        return Path(os.environ[variable]).expanduser().absolute()
    return absolute(configured) if configured is not None else None
