"""The classes that a command is given in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.errors import UserError, user_errors

Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help='"a,b,c", or a file: id,name (CSV), {"id": "name"} (JSON), or a name a line; '
        "by default the checkpoint's own.",
    ),
]


def class_names(text: str | None) -> list[str] | None:
    """The names, in their order; None for None. UserError for an empty list or a bad file."""
    from tcclip.data.annotations import read_class_names
    from tcclip.text_files import read_text

    if text is None:
        return None
    path = Path(text)
    try:
        in_file = path.is_file()
    except OSError:  # a list longer than a file's name may be
        in_file = False
    with user_errors():
        if in_file and path.suffix in (".csv", ".json"):
            return list(read_class_names(path))
        listed = read_text(path).splitlines() if in_file else text.split(",")
    names = [name.strip() for name in listed if name.strip()]
    if not names:
        raise UserError(f"--classes {text!r} names no class")
    return names
