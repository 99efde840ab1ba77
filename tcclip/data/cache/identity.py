"""By what a video is known: its content, whatever it is called and wherever it is.

The digest of every byte: reading them takes 1 to 2 ms, decoding them 20 to 160 ms. It is kept for
the file's stamp (device, inode, size, times of change), so a file is read for it once. The time of
the inode's change cannot be set back as that of the content can: a changed file has another stamp.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import time
from contextlib import suppress
from pathlib import Path

import torch

from tcclip.data.cache.store import Store

#: What frames depend on beside this project's code.
PACKAGES = (
    "av", "decord", "numpy", "opencv-python-headless", "pillow", "simplejpeg", "torch",
    "torchvision",
)  # fmt: skip
#: A file may change twice within one tick of its clock: younger ones are read each time.
_SETTLED_NANOSECONDS = 2_000_000_000

#: Name, device, inode, size, and times of change of content and inode, of each file of a video.
Stamp = tuple[tuple[str, int, int, int, int, int], ...]


def stamp(path: Path) -> Stamp | None:
    """The stamp of a file, or of a folder's files in order; None if there is nothing to read."""
    try:
        if not path.is_dir():
            return (_of_file(path),)
        return tuple(_of_file(Path(one)) for one in sorted(os.scandir(path), key=lambda e: e.name))
    except OSError:
        return None


def _of_file(path: Path) -> tuple[str, int, int, int, int, int]:
    status = path.stat()
    numbers = (status.st_dev, status.st_ino, status.st_size)
    return (path.name, *numbers, status.st_mtime_ns, status.st_ctime_ns)


def content_digest(path: Path, known_as: Stamp, store: Store) -> str | None:
    """sha256 of a video's content; None if it cannot be read or changed meanwhile."""
    name = f"{hashlib.sha256(repr(known_as).encode()).hexdigest()[:32]}.id"
    if (file := store.open(name)) is not None:
        with file:
            digest, _, check = file.read().decode(errors="replace").partition(" ")
        if check == _check(name, digest):
            return digest
    try:
        digest = _read(path)
    except OSError:
        return None
    if stamp(path) != known_as:
        return None
    if time.time_ns() - max(max(one[4:]) for one in known_as) > _SETTLED_NANOSECONDS:
        store.write(name, [f"{digest} {_check(name, digest)}".encode()])
    return digest


def _read(path: Path) -> str:
    """Of a folder: of its files' names and contents. A file's ending says how it is opened."""
    whole = hashlib.sha256(path.suffix.lower().encode())
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with suppress(IsADirectoryError), file.open("rb") as opened:
            own = hashlib.file_digest(opened, "sha256").hexdigest()
            whole.update(f"{file.name if file is not path else ''}/{own}\n".encode())
    return whole.hexdigest()


def _check(name: str, digest: str) -> str:
    return hashlib.sha256(f"{name} {digest}".encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """A digest of all that turns a file into pixels: this package, what it uses, the processor.

    Of the code itself: a number that has to be raised would be forgotten.
    """
    whole = hashlib.sha256(torch.backends.cpu.get_cpu_capability().encode())
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            whole.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        whole.update(file.read_bytes())
    return whole.hexdigest()
