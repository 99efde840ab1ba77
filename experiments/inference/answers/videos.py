"""Which videos are meant: files, folders, patterns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.datasets.own.videos import scan
from experiments.errors import UserError
from tcclip.data.decode.images.frame_folder import FRAME_SUFFIXES

if TYPE_CHECKING:
    from tcclip.predict import Source


def find_videos(arguments: Iterable[str]) -> tuple[list[Source], list[str]]:
    """The videos of files, folders (all below) and patterns (`clips/*.mp4`, `**`), each once.

    A folder of images without a video file below it is one video, of frames. A file that is not
    there is listed all the same: its prediction says so. Also: what was left out, in words.
    UserError if a folder or a pattern has no video.
    """
    found: dict[str, Source] = {}
    notes: list[str] = []
    for text in map(expanduser, arguments):
        paths = [text]
        if has_magic(text) and not Path(text).exists():
            paths = sorted(glob(text, recursive=True))  # noqa: PTH207  # may be absolute
            if not paths:
                raise UserError(f"{text!r} matches no file; in quotes, ** stands for folders")
        for path in map(Path, paths):
            sources, left_out = _of(path)
            found |= {str(one.path): one for one in sources if str(one.path) not in found}
            notes += [f"{path}: {note}" for note in left_out]
    return list(found.values()), notes


def _of(path: Path) -> tuple[list[Source], Sequence[str]]:
    from tcclip.predict import Source

    if not path.is_dir():
        return [Source.of(path)], ()
    has_images = any(one.suffix.lower() in FRAME_SUFFIXES for one in path.iterdir())
    try:
        below = scan(path).without_stray_images()
    except UserError:  # no video below it
        if not has_images:
            raise
        return [Source.of(path)], ()
    if has_images and below.frames:  # no video files, but folders of images beside its own
        return [Source.of(path)], ()
    # As a list would name them, so that views are drawn as in an evaluation.
    return [Source(path / name, name) for name in below.paths], below.notes
