"""Packs a data set's videos: in parallel, and from where an earlier command was stopped.

A video is written aside and renamed, then noted in the journal `.unfinished/done.csv`; the record
is made of the journal at the end. So a pack that was interrupted, and one that was made at once,
are the same bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from experiments.datasets.pack.packed_video import write_packed
from experiments.datasets.pack.record import (
    HEAD,
    RECORD,
    SETTINGS,
    UNFINISHED,
    PackedFile,
    file_name,
    lines,
    parse,
    read_pack,
    read_record,
)
from experiments.errors import UserError
from experiments.store.files import clear_abandoned, sync, write_text
from protocols.datasets import Pack
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.seeding import seeded_rng

#: Packed videos from whose size that of the rest is estimated.
SAMPLE = 16
#: Seconds that a decoder may take without an answer.
TIMEOUT = 60.0
JOURNAL = "done.csv"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def pack(
    videos: Mapping[str, Path],
    folder: Path,
    settings: Pack,
    *,
    workers: int,
    progress: Callable[[int, int], None],
) -> dict[str, PackedFile]:
    """Pack `videos`, `plain_name` of a list entry -> file, into `folder`; the pack's record.

    What is there already, of the recorded size, is kept. `workers` processes, or this one.
    UserError for a folder that holds something else or another pack, that another process is
    packing into, or without room.
    """
    with _naming_full_disks(folder):
        _claim(folder, settings)
        with _lock(folder / UNFINISHED / "lock"):
            files = {name: one for name, one in _packed(folder).items() if _is_there(folder, one)}
            left = {name: videos[name] for name in sorted(videos.keys() - files.keys())}
            todo = _Videos(left, folder, settings)
            total = len(todo) + len(files)
            journal = folder / UNFINISHED / JOURNAL
            write_text(journal, HEAD + lines(files.values()))
            progress(len(files), total)
            packed, size = len(files), sum(one.bytes for one in files.values())
            with journal.open("a") as file:
                for one in _results(todo, workers):
                    files[one.video] = one
                    if not one.cause:  # what failed is tried again by the next command
                        file.write(lines([one]))
                        file.flush()
                        packed, size = packed + 1, size + one.bytes
                    progress(len(files), total)
                    _check_room(folder, packed, size, total - len(files))
            record = HEAD + lines(files[name] for name in sorted(files))
            write_text(folder / RECORD, record)
            shutil.rmtree(folder / UNFINISHED)
    return files


def _claim(folder: Path, settings: Pack) -> None:
    """Make the folder a pack, unless it is one with these settings."""
    known = read_pack(folder)
    if known is None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(not one.name.startswith(".") for one in folder.iterdir()):
            raise UserError(f"{folder} holds something else; give another folder with --to")
        write_text(folder / SETTINGS, settings.model_dump_json() + "\n")
    elif known.model_copy(update={"digest": None}) != settings:
        raise UserError(
            f"{folder} is a pack of other settings ({known}); give the same, or another --to"
        )
    clear_abandoned(folder)
    (folder / UNFINISHED).mkdir(exist_ok=True)


@contextmanager
def _naming_full_disks(folder: Path) -> Iterator[None]:
    """What the disk refuses as UserError; reading a video has errors of its own."""
    try:
        yield
    except OSError as error:
        more = f". {_MORE_ROOM}" if error.errno in _FULL else ""
        raise UserError(f"{folder} cannot be written: {error.strerror}{more}") from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """UserError if another process holds it. Gone with its process, however that ends."""
    with path.open("w") as file:
        try:
            # Unlike a lock of flock, it is not inherited: workers may end after their parent.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{path.parents[1]} is being packed by another process") from error
        yield


def _packed(folder: Path) -> dict[str, PackedFile]:
    """What an earlier command packed."""
    journal = folder / UNFINISHED / JOURNAL
    return (read_record(folder) or {}) | (parse(journal) or {})


def _is_there(folder: Path, one: PackedFile) -> bool:
    path = folder / file_name(one.video)
    return not one.cause and path.is_file() and path.stat().st_size == one.bytes


def _check_room(folder: Path, packed: int, size: int, left: int) -> None:
    """UserError if the disk has no room for the videos that are left, by what was `packed`."""
    if packed < min(SAMPLE, packed + left) or not packed:
        return
    needed, free = size / packed * left, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: about {needed / 1e9:.1f} GB more are needed for {left} videos, and "
            f"{free / 1e9:.1f} GB are free. {_MORE_ROOM}"
        )


_MORE_ROOM = (
    "Make room and give the same command to go on, or delete the pack and make a smaller one with "
    "--frames or a lower --quality"
)


# ---- In parallel ----


def _results(videos: _Videos, workers: int) -> Iterator[PackedFile]:
    """Each video as it is done."""
    done: DataLoader[PackedFile | OSError] = DataLoader(
        videos,
        batch_size=None,
        num_workers=workers if workers > 1 else 0,
        # A progress bar's thread is running, which must not be forked.
        multiprocessing_context="spawn" if workers > 1 else None,
    )
    for one in done:
        if isinstance(one, OSError):
            raise one
        yield one


class _Videos(Dataset[PackedFile | OSError]):
    """Packs video i when it is asked for.

    Not in their order: the size of those to come is estimated from those before.
    """

    def __init__(self, videos: Mapping[str, Path], folder: Path, settings: Pack) -> None:
        ordered = list(videos.items())
        self.todo = [ordered[place] for place in seeded_rng("pack").permutation(len(ordered))]
        self.folder, self.settings = folder, settings
        self.decoder = Decoder("auto", TIMEOUT)

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> PackedFile | OSError:
        """An error of the disk is returned: raised, it would lose its number on its way."""
        name, video = self.todo[index]
        if Path(name).is_absolute() or name.startswith(".."):
            return PackedFile(name, cause="is listed outside of the folder of videos")
        path = self.folder / file_name(name)
        aside = self.folder / UNFINISHED / f"{os.getpid()}.zip"
        try:
            packed = write_packed(self.decoder, name, video, aside, self.settings)
            sync(aside)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.replace(path)
        except UnreadableVideo as error:
            return PackedFile(name, cause=error.cause)
        except MemoryError as error:
            return OSError(errno.ENOMEM, str(error))
        except OSError as error:
            return error
        finally:
            aside.unlink(missing_ok=True)
        return packed
