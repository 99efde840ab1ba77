"""Files that are either whole or not there: written aside, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from experiments.errors import OutputUnusable


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    A reader sees the old file or the new one, never a part. The temporary file is removed when
    `write` fails. OutputUnusable when the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unusable(path, error) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_whole(path, lambda temporary: _write_bytes(temporary, text.encode()))


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def unusable(path: Path, error: OSError) -> OutputUnusable:
    """The error to show when `path` cannot be written: its name, the cause, what to do."""
    return OutputUnusable(
        f"cannot write {path}: {error.strerror or error}; "
        "choose another folder with --out, or free space and permissions, and start again: "
        "finished work is kept"
    )
