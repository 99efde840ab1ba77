"""The files of the published annotation set: paths, digests and counts.

They are third-party data: the project downloads and verifies them, and contains none.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tcclip.config import FrozenModel

#: Where the set was published, and the commit whose files the manifest describes.
REPOSITORY = "naver-ai/tc-clip"
COMMIT = "8728fe4"


class Entry(FrozenModel):
    """One file. `lines`: videos of a list; `classes`: names of a label file.

    Without `sha256`, only the file's name is known, not its content.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    lines: int | None = None
    classes: int | None = None


@cache
def manifest() -> tuple[Entry, ...]:
    """Every file of the published set, by path."""
    content = json.loads(Path(__file__).with_name("manifest.json").read_text(encoding="utf-8"))
    return tuple(Entry.model_validate(one) for one in content["files"])
