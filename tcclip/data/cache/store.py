"""A folder of files that can be made again, shared by processes: the oldest used go first.

A file appears whole or not at all; none is waited for to reach the disk, since what a power cut
damages is told by its checksum and made again. A folder that cannot be written is only read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tcclip.text_files import check_regular

#: Bytes of the disk that are always left to others.
RESERVE = 2**30
#: Share of its limit that a full folder is brought down to, so that not every file brings it down.
AFTER_TRIM = 0.9
#: Share of a limit that a training list may take: the test views are to stay too.
TRAINING_SHARE = 0.5
#: Locks on a folder's size last for moments; a file system that cannot lock is not waited for.
_LOCK_SECONDS = 5.0
#: What has been written for longer was left by a process that was killed.
_WRITE_SECONDS = 3600.0


class StoredFile(NamedTuple):
    """A file, when it was last used (seconds since 1970), and its size in bytes."""

    path: Path
    used: float
    size: int


@dataclass(frozen=True)
class Store:
    """Files by name in `folder`, at most `limit` bytes together. A name begins with hex digits."""

    folder: Path
    limit: int

    def path(self, name: str) -> Path:
        """Where the file is, if it is there."""
        return self.folder / name[:2] / name

    def open(self, name: str) -> BinaryIO | None:
        """The file, which counts as used now; None if there is none that may be read."""
        try:
            file = _open(self.path(name), "rb")
        except OSError:
            return None
        with suppress(OSError):  # a folder that is only read
            os.utime(file.fileno())
        return file

    def write(self, name: str, parts: Sequence[bytes | memoryview]) -> str | None:
        """Write a file, in place of an older one; the reason if it cannot be kept."""
        target, size = self.path(name), sum(len(part) for part in parts)
        if size > self.limit:
            return "it is larger than the cache"
        aside = target.with_name(f"{name}.{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < size + RESERVE:
                return "the disk is nearly full"
            with aside.open("xb") as file:
                file.writelines(parts)
            with self._held() as held:
                self._make_room(held, target, size)
                aside.replace(target)
        except OSError as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            return error.strerror or type(error).__name__
        return None

    def remove(self, name: str) -> None:
        """Remove a file if it is there and may be removed."""
        with suppress(OSError):
            self.path(name).unlink()

    def clear(self) -> tuple[int, int, list[Path]]:
        """Delete all files: how many, how many bytes, and those that cannot be deleted."""
        failed, files = [], self.files()
        for file in files:
            try:
                file.path.unlink(missing_ok=True)
            except OSError:
                failed.append(file.path)
        with suppress(OSError):
            (self.folder / "held").unlink()
        done = [file for file in files if file.path not in set(failed)]
        return len(done), sum(file.size for file in done), failed

    def files(self) -> list[StoredFile]:
        """All files, those that were used longest ago first."""
        found = []
        with suppress(FileNotFoundError):
            for folder in self.folder.iterdir():
                with suppress(OSError):  # also what another process removes meanwhile
                    for entry in os.scandir(folder):
                        status = entry.stat()
                        being_written = entry.name.count(".") > 1
                        if not being_written or time.time() - status.st_mtime > _WRITE_SECONDS:
                            found.append(StoredFile(Path(entry), status.st_mtime, status.st_size))
        return sorted(found, key=lambda file: file.used)

    @contextmanager
    def locked(self, name: str, seconds: float) -> Iterator[None]:
        """Alone with `name` among all processes; not so after `seconds`, or without locks."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = _open(self.folder / "lock", "ab")
        except OSError:
            yield
            return
        with file:
            # A byte of the file for each name. What ends the process ends the lock.
            _lock(file, int(name[:14], 16), seconds)
            yield

    @contextmanager
    def _held(self) -> Iterator[list[int]]:
        """The bytes in the folder, as counted in a file: one number, to be changed in place."""
        with _open(self.folder / "held", "a+b") as file:
            _lock(file, 0, _LOCK_SECONDS)
            file.seek(0)
            text = file.read(32)
            known = text.strip().isdigit()
            held = [int(text) if known else sum(one.size for one in self.files())]
            yield held
            file.truncate(0)
            file.write(b"%d" % max(0, held[0]))

    def _make_room(self, held: list[int], target: Path, size: int) -> None:
        """Count `size` bytes for `target`; remove what was used longest ago if that is too much."""
        if held[0] + size > self.limit:
            files = self.files()
            held[0] = sum(file.size for file in files)
            goal = max(0.0, self.limit * AFTER_TRIM - size)
            for file in files:
                if held[0] <= goal:
                    break
                with suppress(OSError):
                    file.path.unlink()
                    held[0] -= file.size
        with suppress(FileNotFoundError):
            held[0] -= target.stat().st_size
        held[0] += size


def _open(path: Path, mode: str) -> BinaryIO:
    """A regular file: opening a pipe, which somebody may have put there, would block."""
    with suppress(FileNotFoundError):
        check_regular(path)
    return path.open(mode)  # type: ignore[return-value]  # all modes here are binary


def _lock(file: BinaryIO, byte: int, seconds: float) -> None:
    """Lock a byte of an open file for this process, until it is closed, or do without."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN) or time.monotonic() > deadline:
                return
            time.sleep(0.003)
        else:
            return


def limit_of(folder: Path, gigabytes: float | None) -> int:
    """Bytes that a folder may hold: as given, or half of what it and the free disk are together."""
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    held = 0
    with suppress(OSError, ValueError), _open(folder / "held", "rb") as file:
        held = int(file.read(32))
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return (shutil.disk_usage(there).free + held) // 2
