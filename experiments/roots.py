"""Where annotation lists and videos are on this machine. Never part of a run's identity."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.errors import MissingData
from protocols.datasets import Dataset
from tcclip.config import Settings


def cache_folder() -> Path:
    """Where things made once are kept: $TCCLIP_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TCCLIP_CACHE") or Path(base) / "tcclip").absolute()


class Roots(Settings):
    """Folders, absolute: published annotations, data sets' videos, and the cache."""

    annotations: Path | None = None
    videos: Path | None = None
    cache: Path

    def annotation_folder(self, data: Dataset) -> Path:
        """Folder that a data set's lists and label files are relative to; MissingData if unset."""
        if data.embedded:
            return self._embedded(data)
        if self.annotations is None:
            raise MissingData(
                f"{data.name}: no annotations folder; give --annotations or $TCCLIP_ANNOTATIONS"
            )
        return self.annotations

    def video_folder(self, data: Dataset) -> Path:
        """Folder that the list entries of a data set are relative to; MissingData if unset."""
        if data.embedded:
            return self._embedded(data) / "videos"
        if self.videos is None:
            raise MissingData(f"{data.name}: no videos; give --data-root or $TCCLIP_DATA_ROOT")
        return self.videos / data.name

    def _embedded(self, data: Dataset) -> Path:
        """The embedded data set's folder, made now if it is not there yet."""
        from tcclip.data import moving_shapes

        return moving_shapes.make(self.cache / data.name)
