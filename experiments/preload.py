"""Thousands of results at once: on every core, and what was seen is remembered for the next look.

The memory is a file in the user's cache. It says which result.json did validate, by path and stamp
(size, time of change, inode): a file that was touched since is read and validated anew, and
without the memory everything is. A sweep decides by the files alone and does not look here.
"""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

import results.records
from experiments.errors import OutputUnusable
from experiments.files import Location, Stamp, read_bytes, write_text
from experiments.finished import Finished, Seen, readable, seen

#: Fewer results are read faster than remembered.
MANY = 1000
#: Results a process reads before it hands over what it found.
PART = 500


@contextmanager
def remembered(paths: Sequence[Location], cache: Path | None = None) -> Iterator[None]:
    """Within, `finished(path)` of these results is answered quickly; at the end it is remembered.

    Does nothing for few results. `cache`: folder of the memory; the user's cache by default.
    """
    if len(paths) < MANY:
        yield
        return
    from experiments.roots import cache_folder  # the few do not pay for its import

    folder = str(paths[0].parent.parent)
    name = f"finished-{hashlib.sha256(folder.encode()).hexdigest()[:16]}.json"
    memory = (cache or cache_folder()) / name
    known = _recall(memory)
    for path, (of, one) in known.items():
        seen.setdefault(path, (of, one))
    _read_all([path for path in paths if str(path) not in seen])
    yield
    now: _Memory = {}
    for path in map(str, paths):
        of_path = seen.get(path)
        if of_path is not None and of_path[1] is not None:
            now[path] = of_path[0], of_path[1]
    same = all(path in now and now[path][1] is one for path, (_, one) in known.items())
    if not same or len(now) != len(known):
        _remember(memory, now)


@contextmanager
def all_kept() -> Iterator[None]:
    """Within, nothing that was made is looked through for what could be freed.

    For commands that end soon and keep what they make: over thousands of runs it takes a while.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read_all(paths: Sequence[Location]) -> None:
    """Read results on every core: where there are many, and no threads that a fork would lose."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    local = [path for path in paths if isinstance(path, Path)]
    if len(local) < MANY or cores == 1 or threading.active_count() > 1:
        return
    import multiprocessing  # takes a while, and is seldom needed

    parts = [local[start : start + PART] for start in range(0, len(local), PART)]
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        for found in pool.imap_unordered(_read_part, parts):
            seen.update(found)


def _read_part(paths: Sequence[Path]) -> Seen:
    for path in paths:
        readable(path)
    return {name: seen[name] for name in map(str, paths) if name in seen}


# ---- The memory ----

_Memory = dict[str, tuple[Stamp, Finished]]


def _version() -> str:
    """What validates: with another schema, what an earlier one took says nothing."""
    return hashlib.sha256(Path(results.records.__file__).read_bytes()).hexdigest()


def _adapter() -> TypeAdapter[tuple[str, _Memory]]:
    return TypeAdapter(tuple[str, _Memory])


def _recall(memory: Path) -> _Memory:
    """What was remembered; nothing if there is no memory, or one of another version."""
    try:
        version, known = _adapter().validate_json(read_bytes(memory) or b"")
    except (ValidationError, OutputUnusable):
        return {}
    return known if version == _version() else {}


def _remember(memory: Path, known: _Memory) -> None:
    try:
        write_text(memory, _adapter().dump_json((_version(), known)).decode())
    except OutputUnusable:
        return  # a user without a cache reads everything each time
