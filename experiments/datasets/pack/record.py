"""What a pack holds, as its own files say: settings, and a line for every video.

pack.json       how videos are stored; written first
videos.csv      what was packed, sorted; there means the pack is complete
wave/1.mp4.frames.zip
.unfinished/    what a packing command that was stopped goes on from
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from experiments.errors import UserError, user_errors
from protocols.datasets import Pack
from tcclip.data.decode.images.packed_video import ENDING
from tcclip.text_files import YAML_BYTES, read_regular, read_text

SETTINGS, RECORD, UNFINISHED = "pack.json", "videos.csv", ".unfinished"


class PackedFile(NamedTuple):
    """A video: its list entry, its frames and how many are kept, its file's bytes and sha256.

    `damaged`: packets of the video that could not be decoded; `psnr`: dB between the resized
    frames and the packed ones, over 16 frames. `cause`: why it could not be packed; then the rest
    is empty.
    """

    video: str
    frames: int = 0
    kept: int = 0
    bytes: int = 0
    sha256: str = ""
    damaged: int = 0
    psnr: float = 0.0
    cause: str = ""


#: A record's first line.
HEAD = ",".join(PackedFile._fields) + "\n"


def plain_name(entry: str) -> str:
    """A list entry in one spelling, which its file is named after."""
    return os.path.normpath(entry)


def file_name(entry: str) -> str:
    """The file of a list entry, below the pack's folder."""
    return plain_name(entry) + ENDING


def is_pack(folder: Path) -> bool:
    """Whether `folder` is a pack, complete or not."""
    try:
        return (folder / SETTINGS).is_file()
    except OSError:  # whether the folder can be read at all, others say
        return False


def read_pack(folder: Path) -> Pack | None:
    """The pack that `folder` is; None if it is none. UserError if its settings cannot be read."""
    if not is_pack(folder):
        return None
    with user_errors():
        settings = read_regular(folder / SETTINGS, YAML_BYTES)
    try:
        pack = Pack.model_validate_json(settings)
    except ValidationError as error:
        raise UserError(f"{folder / SETTINGS} is not that of a pack: {error}") from error
    if not (folder / RECORD).is_file():
        return pack
    digest = hashlib.sha256(settings + (folder / RECORD).read_bytes()).hexdigest()
    return pack.model_copy(update={"digest": digest})


def read_record(folder: Path) -> dict[str, PackedFile] | None:
    """`plain_name` of a list entry -> what was packed; None while the pack is not complete."""
    return parse(folder / RECORD)


def parse(file: Path) -> dict[str, PackedFile] | None:
    """The record in a file, None without one; a line that was cut short is left out.

    UserError, naming the line, for one that is no record's.
    """
    if not file.is_file():
        return None
    with user_errors():
        text = read_text(file)
    rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    found = {}
    try:
        for video, frames, kept, size, sha256, damaged, psnr, cause in islice(rows, 1, None):
            found[video] = PackedFile(
                video, int(frames), int(kept), int(size), sha256, int(damaged), float(psnr), cause
            )
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{file}:{rows.line_num} is damaged ({error}); restore it, or delete it: then "
            "`tcclip data pack` looks at the videos again"
        ) from error
    return found


def lines(files: Iterable[PackedFile]) -> str:
    """The text of a record, or of lines to add to one; see `parse`."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(files)
    return text.getvalue()
