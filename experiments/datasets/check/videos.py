"""Which entries of lists are the same video, however they are written or stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from experiments.datasets.video_files import STAT_THREADS, FoundVideos, same_video_key
from tcclip.data.annotations import Item, sha256_of
from tcclip.data.decode.images.frame_folder import frame_files
from tcclip.data.decode.video_file import DecodingError

#: Bytes from the middle of files of equal size that are compared before whole files are.
SAMPLE = 16 * 1024
T = TypeVar("T", bound=Hashable)


class VideoList(NamedTuple):
    """A list that was read, and the names of each of the classes that its labels index."""

    dataset: str
    split: str
    items: Sequence[Item]
    classes: Sequence[tuple[str, ...]]

    @property
    def title(self) -> str:
        """Data set and split."""
        return f"{self.dataset} {self.split}"


class Videos(NamedTuple):
    """The videos of a list, each once. `files`: key -> the first entry for it.

    `contents`: key of the content -> key of the first file with it.
    """

    files: dict[Hashable, str]
    contents: dict[Hashable, Hashable]


class SameVideo:
    """Keys of list entries that are equal for entries of the same video.

    `found`: data set -> its videos. `copies`: data sets whose files may be read to find byte
    copies; only files of equal size are.
    """

    def __init__(self, found: Mapping[str, FoundVideos], copies: Collection[str]) -> None:
        self._files = {
            (name, path): file
            for name, videos in found.items()
            for path, file in (videos.meant | videos.files).items()
        }
        self._copies = _copies(
            {
                (file.device, file.inode): (file.size, found[name].folder / file.path)
                for (name, _), file in self._files.items()
                if name in copies
            }
        )
        self._videos: dict[tuple[str, str], Videos] = {}

    def file(self, dataset: str, path: str) -> Hashable:
        """Equal for all spellings of a path and all links to a file.

        An entry whose file is not there is known by its path without case and ending.
        """
        file = self._files.get((dataset, path))
        if file is None:
            return dataset, same_video_key(path)
        return file.device, file.inode

    def content(self, file: Hashable) -> Hashable:
        """From the key of a file to one that is equal for byte copies of it, too."""
        return self._copies.get(file, file)

    def videos(self, one: VideoList) -> Videos:
        """The videos of a list; looked up once."""
        known = one.dataset, one.split
        if known not in self._videos:
            files: dict[Hashable, str] = {}
            for item in one.items:
                files.setdefault(self.file(one.dataset, item.path), item.path)
            contents = {self.content(file): file for file in reversed(files)}
            self._videos[known] = Videos(files, contents)
        return self._videos[known]


def _copies(files: Mapping[Hashable, tuple[int, Path]]) -> dict[Hashable, Hashable]:
    """Key -> size and sha256, of those `files` (size and path) that have these in common.

    Of folders of frames, which have no size, the number of frames and the sha256 of all.
    """
    sizes = {key: size for key, (size, _) in files.items() if size}
    folders = {key: path for key, (size, path) in files.items() if not size}
    sizes |= _read_all(lambda path: len(frame_files(path)) if path.is_dir() else None, folders)
    samples = _read_all(_middle, {key: files[key][1] for key in _shared(sizes)})
    digests = _read_all(_digest, {key: files[key][1] for key in _shared(samples)})
    return {key: (sizes[key], digest) for key, digest in _shared(digests).items()}


def _parts(path: Path) -> list[Path]:
    """A video's files: itself, or the frames of a folder."""
    return frame_files(path) if path.is_dir() else [path]


def _digest(path: Path) -> tuple[str, ...]:
    return tuple(sha256_of(one) for one in _parts(path))


def _shared(values: Mapping[Hashable, T]) -> dict[Hashable, T]:
    """The items whose value others have, too."""
    counts = Counter(values.values())
    return {key: value for key, value in values.items() if counts[value] > 1}


def _read_all(
    read: Callable[[Path], T | None], files: Mapping[Hashable, Path]
) -> dict[Hashable, T]:
    def one(path: Path) -> T | None:
        try:
            return read(path)
        except (OSError, DecodingError):  # the run, or a check with --decode, says so
            return None

    with ThreadPoolExecutor(STAT_THREADS) as pool:
        values = zip(files, pool.map(one, files.values()), strict=True)
        return {key: value for key, value in values if value is not None}


def _middle(path: Path) -> bytes:
    parts = _parts(path)
    path = parts[len(parts) // 2]
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SAMPLE) // 2)
        return file.read(SAMPLE)
