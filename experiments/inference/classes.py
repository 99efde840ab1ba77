"""The classes that a command is given in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.errors import UserError, user_errors

Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="LIST|FILE",
        help="a,b,c in any words; by default the checkpoint's own.",
    ),
]

#: Endings of files; a text without them is taken for names.
FILES = (".txt", ".csv", ".json")


def class_names(text: str | None) -> list[str] | None:
    """The names, in their order; None for None. UserError for an empty list or a bad file."""
    from tcclip.text_files import parse_json, read_text

    if text is None:
        return None
    path = Path(text)
    try:
        in_file = path.is_file()
    except OSError:  # a list longer than a file's name may be
        in_file = False
    if not in_file and path.suffix.lower() in FILES:
        raise UserError(f"--classes {text}: no such file; names are given as 'a,b,c'")
    listed = text.split(",")
    with user_errors():
        if in_file:
            listed = read_text(path).splitlines()
            content = (
                parse_json("\n".join(listed), text) if path.suffix.lower() == ".json" else None
            )
            if isinstance(content, list):
                listed = [str(name) for name in content]
            elif path.suffix.lower() in (".csv", ".json"):
                listed = first_names(path)
    names = [name.strip() for name in listed if name.strip()]
    if not names:
        raise UserError(f"--classes {text!r} names no class")
    return names


def first_names(file: Path, classes: int | None = None) -> list[str]:
    """The name of each class, by id; says on standard error if a class has others, which a run's
    tests average and these commands do not. FileError as `read_all_names`."""
    from tcclip.data.annotations import read_all_names

    names = read_all_names(file, classes)
    if several := sum(len(own) > 1 for own in names):
        print(
            f"{file}: {several} of {len(names)} classes have several names; the first is used "
            "here, a run's tests average all",
            file=sys.stderr,
        )
    return [own[0] for own in names]
