"""The videos below a folder, frame folders among them, and how listed names are found there."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from experiments.datasets.video_files import VIDEO_SUFFIXES
from experiments.errors import UserError
from tcclip.data.annotations import Item
from tcclip.data.decode.frame_folder import FRAME_SUFFIXES

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
    or substituted. `flip`: does a mirrored clip keep its class?
    """

    classes: tuple[str, ...]
    lists: dict[str, list[Item]]
    notes: tuple[str, ...] = ()
    flip: bool = True


def scan(folder: Path) -> Videos:
    """Every video below `folder`; a folder of images is one, of frames. Hidden names are left out.

    Links are followed, but not back to a folder they are in. UserError for no folder or no video.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the videos")
    paths: list[str] = []
    frame_folders: set[str] = set()
    others: Counter[str] = Counter()
    bad: list[str] = []
    circles: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent)
        # A link to a folder above would be walked for ever.
        circular = [one for one in folders if here.resolve().is_relative_to((here / one).resolve())]
        circles += [_relative(here / one, folder) for one in circular]
        folders[:] = sorted(
            one for one in folders if one not in circular and not one.startswith(".")
        )
        shown = [name for name in names if not name.startswith(".")]
        videos = [name for name in shown if name.lower().endswith(VIDEO_SUFFIXES)]
        frames = [name for name in shown if name.lower().endswith(FRAME_SUFFIXES)]
        if frames and not videos and here != folder:
            videos, shown, folders[:] = [""], [], []
            frame_folders.add(_relative(here, folder))
        for name in videos:
            path = _relative(here / name, folder)
            (paths if _can_be_listed(path) else bad).append(path)
        others.update(PurePosixPath(name).suffix.lower() or "no ending" for name in shown
                      if name not in videos)  # fmt: skip
    if not paths:
        raise UserError(f"{folder}: no video below it; known endings: {', '.join(VIDEO_SUFFIXES)}")
    notes = []
    if others:
        kinds = ", ".join(f"{number} {ending}" for ending, number in others.most_common(5))
        notes.append(f"left out, no videos: {sum(others.values())} files ({kinds})")
    notes += [f"left out, a link back to a folder it is in: {path}" for path in circles]
    if bad:
        notes.append(
            f"left out, a list cannot hold the name: {some([ascii(path) for path in bad])}; rename"
        )
    return Videos(folder, tuple(sorted(paths)), frozenset(frame_folders), tuple(notes))


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


@dataclass
class Finder:
    """Finds the videos of another project's list: at the listed path, else by their name.

    `missing`: those that were not there, `ambiguous`: those that several files may be.
    """

    videos: Videos
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._paths = set(self.videos.paths)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.videos.paths:
            self._by_stem[_stem(path)].append(path)

    def __call__(self, listed: str, *folders: str) -> str | None:
        """The path of a listed video. None, and it is kept, if there is none or several.

        Of several, the one below the first of `folders` that has any is meant, e.g. "train".
        """
        if listed in self._paths:
            return listed
        found = self._by_stem.get(_stem(listed), [])
        for folder in folders if len(found) > 1 else ():
            found = [one for one in found if one.split("/")[0] == folder] or found
        if len(found) == 1:
            return found[0]
        (self.ambiguous if found else self.missing).append(listed)
        return None

    def notes(self, lists: Mapping[str, Sequence[Item]]) -> list[str]:
        """What is left out of the lists. UserError if nothing is in them."""
        if not any(lists.values()):
            raise UserError(
                f"{self.videos.folder} holds none of the listed videos, such as "
                f"{(self.missing + self.ambiguous)[0]}; give the folder the lists are about"
            )
        notes = []
        if self.missing:
            notes.append(f"listed, but not there, left out: {some(self.missing)}")
        if self.ambiguous:
            notes.append(f"left out, several files have the name: {some(self.ambiguous)}")
        return [*self.videos.notes, *notes]


def _stem(path: str) -> str:
    name = normalize("NFC", PurePosixPath(path).name)
    ending = PurePosixPath(name).suffix
    return (name.removesuffix(ending) if ending.lower() in VIDEO_SUFFIXES else name).casefold()
