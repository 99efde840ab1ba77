"""The videos below a folder, frame folders among them, and how listed names are found there."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from experiments.datasets.video_files import VIDEO_SUFFIXES, strip_ending
from experiments.errors import UserError
from tcclip.data.annotations import Item
from tcclip.data.decode.images.frame_folder import FRAME_SUFFIXES

#: How many names a note gives beside their count.
NAMED = 3


@dataclass(frozen=True)
class Videos:
    """All videos below `folder`: paths relative to it, sorted. `notes`: what was left out.

    `frames`: those that are folders of images.
    """

    folder: Path
    paths: tuple[str, ...]
    frames: frozenset[str]
    notes: tuple[str, ...]

    def without_stray_images(self) -> Videos:
        """Without folders of images, thumbnails perhaps, where there are video files."""
        files = tuple(path for path in self.paths if path not in self.frames)
        if not files or not self.frames:
            return self
        stray = f"left out, folders of images beside video files: {some(sorted(self.frames))}"
        return Videos(self.folder, files, frozenset(), (*self.notes, stray))


@dataclass(frozen=True)
class Found:
    """A data set before it is written: class names by id, and videos.

    `lists`: split -> its videos, "" for those that are in no split yet. `notes`: what was left out
    or substituted. `flip`: does a mirrored clip keep its class? `read`: the files of lists and
    names.
    """

    classes: tuple[str, ...]
    lists: dict[str, list[Item]]
    notes: tuple[str, ...] = ()
    flip: bool = True
    read: frozenset[Path] = frozenset()


def scan(folder: Path) -> Videos:
    """Every video below `folder`; a folder of images is one, of frames. Hidden names are left out.

    Links are followed, but every folder is read once. UserError for no folder or no video.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the videos")
    paths: list[str] = []
    frame_folders: set[str] = set()
    others: Counter[str] = Counter()
    bad: list[str] = []
    no_files: list[str] = []
    unread: list[str] = []
    for here, folders, names in _walk(folder, unread):
        shown = [name for name in names if not name.startswith(".")]
        known = {name for name in shown if name.lower().endswith(VIDEO_SUFFIXES)}
        if here != folder and not known and any(
            name.lower().endswith(FRAME_SUFFIXES) for name in shown
        ):  # fmt: skip
            known, shown, folders[:] = {""}, [], []
            frame_folders.add(_relative(here, folder))
        for name in known:
            path = _relative(here / name, folder)
            if name and not (here / name).is_file():
                no_files.append(path)
            else:
                (paths if _can_be_listed(path) else bad).append(path)
        others.update(PurePosixPath(name).suffix.lower() or "no ending" for name in shown
                      if name not in known)  # fmt: skip
    if not paths:
        raise UserError(f"{folder}: no video below it; known endings: {', '.join(VIDEO_SUFFIXES)}")
    notes = []
    if others:
        kinds = ", ".join(f"{number} {ending}" for ending, number in others.most_common(5))
        notes.append(f"left out, no videos: {sum(others.values())} files ({kinds})")
    notes += unread
    if no_files:
        names = [ascii(path) for path in sorted(no_files)]
        notes.append(f"left out, links to nothing, pipes or devices: {some(names)}")
    if bad:
        names = [ascii(path) for path in sorted(bad)]
        notes.append(f"left out, a list cannot hold the name: {some(names)}; rename")
    return Videos(folder, tuple(sorted(paths)), frozenset(frame_folders), tuple(notes))


def _walk(folder: Path, unread: list[str]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`: the folders below `folder`, each once; links after all other folders, so that a
    folder is called as where it is. Those taken out of the list given are not read.

    `unread`: notes of what was not read are added.
    """
    seen: set[tuple[int, int]] = set()
    starts = [folder]

    def cannot(error: OSError) -> None:
        unread.append(f"left out, cannot be read: {error.filename}: {error.strerror}")

    while starts:
        for parent, folders, names in os.walk(starts.pop(0), onerror=cannot):
            here = Path(parent)
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                unread.append(f"left out, a folder that is read already: {_relative(here, folder)}")
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            yield here, folders, names
            links = [here / one for one in folders if (here / one).is_symlink()]
            for link in links:
                # The folder above would be read, with all that is beside this one.
                if here.resolve().is_relative_to(link.resolve()):
                    path = _relative(link, folder)
                    unread.append(f"left out, a link back to a folder it is in: {path}")
                else:
                    starts.append(link)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _can_be_listed(path: str) -> bool:
    """Whether a line of a list gives this path back: it ends lines and cuts outer spaces."""
    try:
        path.encode()
    except UnicodeEncodeError:  # a name in another encoding
        return False
    return path == path.strip() and "\n" not in path and "\r" not in path


def some(names: Sequence[str]) -> str:
    """`3 (a, b, c)`, `7 (a, b, c, ...)`."""
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} ({', '.join(names[:NAMED])}{more})"


class Finder:
    """Finds the videos of another project's lists: at the listed path, else by their name.

    Of several files with the name, the one whose folders agree with most of the listed ones. A file
    answers one entry: that which agrees with most of its own folders. `listed`: all entries.
    `missing`: those that were not there, `ambiguous`: those that it is not clear of which file they
    mean, `substituted`: entry -> path for those found elsewhere or with another ending.
    """

    def __init__(self, videos: Videos, listed: Iterable[str]) -> None:
        self.videos = videos
        self.missing: list[str] = []
        self.ambiguous: list[str] = []
        self.substituted: dict[str, str] = {}
        self._paths = set(videos.paths)
        self._files = _Tails(videos.paths)
        self._entries = _Tails(PurePosixPath(one).as_posix() for one in listed)

    def __call__(self, listed: str, *folders: str) -> str | None:
        """The path of a listed video. None, and it is kept, if there is none or several.

        Of several, the one below the first of `folders` that has any is meant, e.g. "train".
        """
        listed = PurePosixPath(listed).as_posix()
        if listed in self._paths:
            return listed
        found = self._files.nearest(listed)
        for folder in folders if len(found) > 1 else ():
            found = [one for one in found if one.split("/")[0] == folder] or found
        entries = self._entries.nearest(found[0]) if len(found) == 1 else []
        if entries == [listed]:
            if not any(f"/{one}".endswith(f"/{listed}") for one in (found[0], _key(found[0]))):
                self.substituted[listed] = found[0]
            return found[0]
        is_missing = not found or (entries and listed not in entries)
        (self.missing if is_missing else self.ambiguous).append(listed)
        return None

    def notes(self, lists: Mapping[str, Sequence[Item]]) -> list[str]:
        """What is left out of the lists or substituted. UserError if nothing is in them."""
        if not any(lists.values()):
            absent = self.missing + self.ambiguous
            if not absent:
                raise UserError("the lists name no video with a class; give lists that do")
            raise UserError(
                f"{self.videos.folder} holds none of the listed videos, such as {absent[0]}; "
                "give the folder the lists are about"
            )
        notes = []
        if self.substituted:
            pairs = [f"{listed}: {path}" for listed, path in self.substituted.items()]
            notes.append(f"not at the listed path, found by name: {some(pairs)}")
        if self.missing:
            notes.append(f"listed, but not there, left out: {some(self.missing)}")
        if self.ambiguous:
            notes.append(
                f"left out, several files or entries have the name: {some(self.ambiguous)}"
            )
        return [*self.videos.notes, *notes]


class _Tails:
    """Paths by what they end in: `c`, `b/c`, `a/b/c`, whatever their case and video ending."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_tail: dict[str, dict[str, None]] = defaultdict(dict)
        for path in paths:
            for tail in _tails(_key(path).casefold()):
                self._by_tail[tail][path] = None

    def nearest(self, path: str) -> list[str]:
        """Those that end as `path` does, over most folders; of these, those of the same case."""
        tails = _tails(_key(path).casefold())
        found = next((list(self._by_tail[one]) for one in tails if one in self._by_tail), [])
        if path in found or not found:
            return [path] if found else []
        own = set(_tails(_key(path)))
        exact = [sum(tail in own for tail in _tails(_key(one))) for one in found]
        most = max(exact)
        return [one for one, number in zip(found, exact, strict=True) if number == most]


def _key(path: str) -> str:
    return strip_ending(normalize("NFC", path))


def _tails(path: str) -> list[str]:
    """`a/b/c`, `b/c`, `c`."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
