"""Finds the files of listed videos.

A line of a user's own list means that path in the videos folder and no other; only an ending that
it lacks may be added. A published data set may be stored otherwise than listed: flat, in class
folders, with other endings, Kinetics' replaced files under replacement/ (SPEC 6).
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar
from unicodedata import normalize

from experiments.datasets.pack.record import file_name, is_pack, plain_name, read_record
from tcclip.data.decode.images.frame_folder import FRAME_SUFFIXES

#: Endings of video files that PyAV reads. None is a number: `game_1.264` is a name.
VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".3gp", ".3g2"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".wmv", ".asf", ".wtv", ".ogv", ".ogg", ".ogm", ".mxf"),
    *(".vob", ".mpe", ".mpv", ".m1v", ".m2v", ".mod", ".tod", ".f4v", ".qt", ".mj2", ".mk3d"),
    *(".divx", ".xvid", ".rm", ".rmvb", ".amv", ".dv", ".gif", ".nut", ".ivf", ".y4m"),
    *(".h264", ".h265", ".hevc", ".mjpg", ".mjpeg"),
)
#: Threads that ask for files, and how many each asks for at a time: most of the time they wait
#: for a network disk.
STAT_THREADS, CHUNK = 16, 500
#: Other files of its name that are named beside a missing video.
NAMED = 3
Progress = Callable[[int, int], None]
T = TypeVar("T")


class VideoFile(NamedTuple):
    """A file: its path below the videos folder, and its size in bytes; 0 for a folder of frames.

    `device` and `inode` are equal for all links to one file.
    """

    path: str
    device: int
    inode: int
    size: int


@dataclass(frozen=True)
class Locator:
    """From list entry to file. `stored`: where entries are that are not at the listed path.

    `packed`: the folder is a pack.
    """

    folder: Path
    stored: Mapping[str, str] = field(default_factory=dict)
    packed: bool = False

    def __call__(self, path: str) -> Path:
        """The file of a list entry; the listed path if there is none."""
        if self.packed:
            return self.folder / file_name(path)
        return self.folder / self.stored.get(path, path)


@dataclass(frozen=True)
class FoundVideos:
    """List entry -> file, of the entries whose file is there.

    `missing`: other entry -> a remark that helps to find it, or "". `meant`: missing entry -> the
    file whose path differs from it in case or ending alone. `notes`: folders that were not read.
    `packed`: the folder is a pack.
    """

    folder: Path
    files: dict[str, VideoFile]
    missing: dict[str, str] = field(default_factory=dict)
    meant: dict[str, VideoFile] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    packed: bool = False

    @cached_property
    def locate(self) -> Locator:
        """From entry to file; small, however long the lists are."""
        if self.packed:
            return Locator(self.folder, packed=True)
        other = {path: one.path for path, one in self.files.items() if difference(path, one.path)}
        return Locator(self.folder, other)


def find_videos(
    folder: Path,
    paths: Iterable[str],
    *,
    loose: bool,
    progress: Progress = lambda done, total: None,
) -> FoundVideos:
    """The files of `paths`, all entries of a data set's lists.

    `loose`: the folder may be organised otherwise than listed; no file answers entries of
    different names. Folders are read only if a listed path is not there, and once a process.
    `progress` is told how many entries of how many are done.
    """
    listed = sorted(set(paths))
    if not folder.is_dir():
        notes = (f"{folder} is not there",)
        return FoundVideos(folder, {}, dict.fromkeys(listed, ""), notes=notes)
    if is_pack(folder):
        return _in_pack(folder, listed, progress)
    there = _in_threads(lambda path: _file(folder, path), listed, progress)
    files = {path: file for path, file in there if file is not None}
    absent = [path for path in listed if path not in files]
    if not absent:
        return FoundVideos(folder, files)
    search = _stored_otherwise if loose else _same_path
    named = {path: search(folder, path) for path in absent}
    candidates = dict(_in_threads(lambda path: _files(folder, named[path]), absent, progress))
    # File -> the entries it would answer.
    answers: dict[str, set[str]] = defaultdict(set)
    for path in files:
        answers[plain(path)].add(plain(path))
    for path, found in candidates.items():
        if len(found) == 1:
            answers[plain(found[0].path)].add(plain(path))
    missing: dict[str, str] = {}
    for path, found in candidates.items():
        if len(found) == 1 and (not loose or len(answers[plain(found[0].path)]) == 1):
            files[path] = found[0]
        else:
            missing[path] = _remark(folder, path, [file.path for file in found])
    if not missing and not loose:
        return FoundVideos(folder, files)
    meant = {path: file for path in missing if (file := _meant(folder, path)) is not None}
    return FoundVideos(folder, files, missing, meant, _walk(folder)[1])


def _in_pack(folder: Path, listed: Sequence[str], progress: Progress) -> FoundVideos:
    """Of a pack; a file that is not of the recorded size counts as missing."""
    record = read_record(folder)
    if record is None:
        notes = (f"{folder} is a pack that is not complete; `tcclip data pack` goes on with it",)
        return FoundVideos(folder, {}, dict.fromkeys(listed, ""), notes=notes, packed=True)
    files, missing = {}, {}
    for path, file in _in_threads(lambda path: _file(folder, file_name(path)), listed, progress):
        packed = record.get(plain_name(path))
        if packed is None:
            missing[path] = "not in the pack; `tcclip data pack` adds it"
        elif packed.cause:
            missing[path] = f"could not be packed: {packed.cause}"
        elif file is None or file.size != packed.bytes:
            size = "is not there" if file is None else f"has {file.size} bytes of {packed.bytes}"
            missing[path] = f"{file_name(path)} {size}; `tcclip data pack` writes it again"
        else:
            files[path] = file
    return FoundVideos(folder, files, missing, packed=True)


def packed_digests(found: FoundVideos) -> dict[str, str]:
    """Entry -> sha256 that its file had when it was packed; empty if the folder is no pack."""
    record = (read_record(found.folder) or {}) if found.packed else {}
    return {path: record[plain_name(path)].sha256 for path in found.files if record}


def _in_threads(
    look_up: Callable[[str], T], paths: Sequence[str], progress: Progress
) -> Iterator[tuple[str, T]]:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    done = 0
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        for found in pool.map(lambda chunk: [(path, look_up(path)) for path in chunk], chunks):
            yield from found
            done += len(found)
            progress(done, len(paths))


def _file(folder: Path, path: str) -> VideoFile | None:
    """The file or the folder of frames that is at `path`."""
    try:
        status = (folder / path).stat()
        is_file = stat.S_ISREG(status.st_mode)
        if not is_file and not _has_frames(folder / path):
            return None
    except (OSError, ValueError):  # `_remark` says why
        return None
    size = status.st_size if is_file else 0
    return VideoFile(os.path.normpath(path), status.st_dev, status.st_ino, size)


def _has_frames(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(FRAME_SUFFIXES) for entry in entries)


def _files(folder: Path, paths: Sequence[str]) -> list[VideoFile]:
    """Those of `paths` that are files; of several links to one file, the first."""
    files: dict[tuple[int, int], VideoFile] = {}
    for path in paths:
        if (file := _file(folder, path)) is not None:
            files.setdefault((file.device, file.inode), file)
    return list(files.values())


def _same_path(folder: Path, path: str) -> list[str]:
    """What `path` may mean: itself in another Unicode form, with an ending where it has none."""
    *folders, name = plain(path).split("/")
    parents = [""]
    for part in folders:
        parents = [
            f"{parent}{one}/"
            for parent in parents
            for one in _read(folder / parent).folders
            if normalize("NFC", one) == part
        ]
    return [
        f"{parent}{one}"
        for parent in parents
        for one in _read(folder / parent).videos.get(same_video_key(name), ())
        if name in (plain(one), strip_ending(plain(one)))
    ]


def _stored_otherwise(folder: Path, path: str) -> list[str]:
    """Videos anywhere below `folder` that have the name of `path`, else with another ending.

    Of several, those under replacement/. Videos of one name in two folders may be different ones.
    """
    name = _name(plain(path))
    names = {one: _name(plain(one)) for one in _named_like(folder, path)}
    same = [one for one in names if names[one] == name]
    same = same or [one for one in names if strip_ending(names[one]) == strip_ending(name)]
    return [one for one in same if "replacement" in one.split("/")[:-1]] or same


def _remark(folder: Path, path: str, candidates: Sequence[str]) -> str:
    """Why an entry has no file and what may be done, as far as that is known."""
    if len(candidates) > 1:
        return f"may be any of {first_few([*map(_shown, candidates)], NAMED)}"
    if candidates:
        return f"{_shown(candidates[0])} is there, but would answer another entry, too"
    try:
        (folder / path).stat()
        return "is neither a file nor a folder of frames"
    except (FileNotFoundError, NotADirectoryError):
        if (folder / path).is_symlink():
            return f"a link to {_shown(str((folder / path).readlink()))}, which is not there"
    except (OSError, ValueError) as error:
        return f"cannot be looked up: {error}"
    if "\\" in path:
        return "write / between folders and file, not \\"
    if others := _named_like(folder, path):
        there = first_few([*map(_shown, others)], NAMED)
        return f"there is {there}: if that is the video, write its path into the list"
    return ""


def _meant(folder: Path, path: str) -> VideoFile | None:
    key = same_video_key(path)
    near = [one for one in _named_like(folder, path) if same_video_key(one) == key]
    return _file(folder, near[0]) if len(near) == 1 else None


# ---- Folders ----


class _Folder(NamedTuple):
    """What a folder holds. `videos`: `same_video_key` -> names. `folders`: links come last.

    `notes`: what could not be read.
    """

    videos: dict[str, list[str]]
    folders: list[str]
    notes: list[str]


@cache
def _read(folder: Path) -> _Folder:
    videos: dict[str, list[str]] = defaultdict(list)
    folders, notes = [], []
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        return _Folder({}, [], [f"{_shown(str(folder))} cannot be read: {error.strerror}"])
    for entry in inside:
        try:
            if entry.is_dir():
                folders.append((entry.is_symlink(), entry.name))
            elif strip_ending(entry.name) != entry.name:
                videos[same_video_key(entry.name)].append(entry.name)
        except OSError as error:  # a link to itself
            notes.append(f"{_shown(entry.path)} cannot be read: {error.strerror}")
    return _Folder(dict(videos), [name for _, name in sorted(folders)], notes)


@cache
def _walk(folder: Path) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """All videos below `folder`, by their names' `same_video_key`; and what was not read.

    Links are followed. Every folder is read once, by the first of its paths, so that links in a
    circle end.
    """
    videos: dict[str, list[str]] = defaultdict(list)
    notes: list[str] = []
    seen: dict[tuple[int, int], str] = {}
    todo = [""]
    while todo:
        parent = todo.pop(0)
        try:
            status = (folder / parent).stat()
        except OSError as error:
            notes.append(f"{_shown(str(folder / parent))} cannot be read: {error.strerror}")
            continue
        first = seen.setdefault((status.st_dev, status.st_ino), parent)
        if first != parent:
            other = _shown(first) or "the videos folder itself"
            notes.append(f"{_shown(parent)} links to {other}: not read a second time")
            continue
        inside = _read(folder / parent)
        notes += inside.notes
        todo += [f"{parent}{name}/" for name in inside.folders]
        for key, names in inside.videos.items():
            videos[key] += [f"{parent}{name}" for name in names]
    return dict(videos), tuple(notes)


def _named_like(folder: Path, path: str) -> list[str]:
    """Videos anywhere below `folder` that are named like `path` but for case and ending."""
    return _walk(folder)[0].get(same_video_key(_name(path)), [])


# ---- Names ----


def strip_ending(name: str) -> str:
    """`name` without the ending of a video file, if it has one: `game_1.5` stays."""
    stem, dot, ending = name.rpartition(".")
    known = stem and stem[-1] != "/" and (dot + ending).lower() in VIDEO_SUFFIXES
    return stem if known else name


def plain(path: str) -> str:
    """The path in one spelling: no `./`, no `//`, accents composed (NFC)."""
    return normalize("NFC", os.path.normpath(path))


def same_video_key(path: str) -> str:
    """Equal for paths that differ in spelling, case or ending alone: `./a//b.MP4`, `a/b.avi`."""
    return strip_ending(plain(path)).casefold()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def difference(listed: str, stored: str) -> str:
    """In what a stored path differs from the listed one, e.g. "other ending"; "" if in nothing."""
    if os.path.normpath(listed) == stored:
        return ""
    one, other = plain(listed).rpartition("/"), plain(stored).rpartition("/")
    kinds = {"other folder": one[0] != other[0], "other ending": one[2] != other[2]}
    return ", ".join(kind for kind, applies in kinds.items() if applies) or "other Unicode form"


def first_few(texts: Sequence[str], most: int) -> str:
    """`a, b, c and 4 more`: of many texts, the first `most`."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _shown(path: str) -> str:
    """A path that can be printed, whatever bytes its name has."""
    return path.encode("utf-8", "backslashreplace").decode()
