"""Decoding videos to see whether they can be read.

It is slow, so it runs in parallel, and what was found is kept in a file: a check that was stopped
continues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from pydantic import ValidationError

from experiments.errors import UserError
from tcclip.config import FrozenModel
from tcclip.data.annotations import sha256_of
from tcclip.data.decode.decoder import Decoder
from tcclip.data.decode.reader import UnreadableVideo


class DecodedFile(FrozenModel):
    """What decoding one file showed; valid while the file has this size and modification time.

    Those of a folder of frames that could not be read are its files' sizes and the last change:
    a frame may be replaced, which does not change the folder.
    `damaged`: packets that could not be decoded although the video could. `cause`: why the video
    could not be read, None if it could.
    """

    file: str
    bytes: int
    modified_ns: int
    frames: int = 0
    reader: str = ""
    damaged: int = 0
    cause: str | None = None

    def is_current(self) -> bool:
        """Whether the file is there and has not changed since."""
        try:
            now = _size_and_change(Path(self.file), frames=self.cause is not None)
        except OSError:
            return False
        return (self.bytes, self.modified_ns) == now


def _size_and_change(file: Path, *, frames: bool) -> tuple[int, int]:
    """(bytes, modification time in ns); with `frames`, of a folder and all files in it."""
    found = [file.stat()]
    if frames and file.is_dir():
        found += [one.stat() for one in file.iterdir() if one.exists()]
    return sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)


def decode_files(
    files: Mapping[str, Path],
    workers: int,
    state: Path,
    progress: Callable[[int], None],
    digests: Mapping[str, str],
) -> dict[str, DecodedFile]:
    """List entry -> what decoding its file showed, `workers` files at once.

    `state`: file that keeps what was found; unchanged files in it are not decoded again.
    `digests`: entry -> the sha256 that its file, a packed video, was verified with.
    `progress` is told how many files are done.
    """
    known = read_decoded(state)
    decoded = {
        path: known[str(file)]
        for path, file in files.items()
        if str(file) in known and known[str(file)].is_current()
    }
    idle: SimpleQueue[Decoder] = SimpleQueue()
    with ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        for _ in range(workers):
            idle.put(stack.enter_context(closing(Decoder("pyav"))))
        futures = {
            pool.submit(_decode, file, idle, digests.get(path)): path
            for path, file in files.items()
            if path not in decoded
        }
        for future in as_completed(futures):
            one = future.result()
            append_decoded(state, one)
            decoded[futures[future]] = one
            progress(len(decoded))
    return decoded


def _decode(file: Path, idle: SimpleQueue[Decoder], digest: str | None) -> DecodedFile:
    decoder = idle.get()
    size, change = _size_and_change(file, frames=False)
    try:
        if digest is not None and sha256_of(file) != digest:
            raise UnreadableVideo(str(file), "not the file that was packed: another sha256")
        # Whichever frames are picked, the whole file is decoded; of a packed one, these alone.
        clip = decoder.read(file, lambda total: np.array([0, total - 1]))
    except MemoryError as error:
        raise UserError(f"{error}; what was decoded is kept: the same command goes on") from error
    except UnreadableVideo as error:
        size, change = _size_and_change(file, frames=True)
        return DecodedFile(file=str(file), bytes=size, modified_ns=change, cause=error.cause)
    finally:
        idle.put(decoder)
    return DecodedFile(
        file=str(file), bytes=size, modified_ns=change,
        frames=clip.total_frames, reader=clip.reader, damaged=clip.damaged,
    )  # fmt: skip


def read_decoded(state: Path) -> dict[str, DecodedFile]:
    """File -> what an earlier check found; a line that was cut short is skipped."""
    decoded: dict[str, DecodedFile] = {}
    if not state.is_file():
        return decoded
    for line in state.read_bytes().splitlines():
        try:
            one = DecodedFile.model_validate_json(line)
        except ValidationError:
            continue
        decoded[one.file] = one
    return decoded


def append_decoded(state: Path, decoded: DecodedFile) -> None:
    """Keep what was found for the next check."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.open("a", encoding="utf-8") as file:
        file.write(decoded.model_dump_json() + "\n")
