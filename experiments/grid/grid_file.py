"""Grid files: a sweep written down as YAML, e.g. one of the paper's ablations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

import protocols
from experiments.errors import UserError, user_errors
from experiments.grid.options import NUMBERS, WORDS, comma_list, integers
from experiments.grid.overrides import Settings
from experiments.grid.plan import Grid
from experiments.grid.weights_file import replace_path
from results.reading.run_folder import NAME_LENGTH
from tcclip import methods
from tcclip.config import FrozenModel
from tcclip.text_files import Lines, place, read_yaml

#: The grid files that come with the project.
FOLDER = Path(__file__).parent / "ablations"
#: Seeds are below this: what NumPy, PyTorch and random all take.
MAX_SEED = 2**32
Seed = Annotated[int, Field(ge=0, lt=MAX_SEED)]
#: Settings with this name say how a run executes; all others change its numbers.
EXECUTION = "execution."


class GridFile(FrozenModel):
    """What a grid file holds; names are those of the command's options, which win.

    `rows`: one entry of settings a row of the table, each of which wins over `set`; its `name`, if
    there is one, is the row's title and no setting.
    """

    protocol: str
    datasets: tuple[str, ...] | None = Field(default=None, min_length=1)
    models: tuple[str, ...] | None = Field(default=None, min_length=1)
    variants: tuple[str, ...] = Field(default=("base",), min_length=1)
    shots: tuple[int, ...] | None = Field(default=None, min_length=1)
    splits: tuple[int, ...] | None = Field(default=None, min_length=1)
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1)
    set: dict[str, Any] = Field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = Field(default=({},), min_length=1)

    @field_validator(*WORDS, mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """`tc_clip,clip` is a list, as in the command's options."""
        if isinstance(value, str):
            return comma_list("the list", value, str)
        return tuple(value) if isinstance(value, list) else value

    @field_validator(*NUMBERS, mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        """`0-4,9`, `[0-4, 9]` and `3` are the integers, as in the command's options."""
        found: list[Any] = []
        for one in value if isinstance(value, list) else [value]:
            text = isinstance(one, str) and (one is value or re.fullmatch("[0-9]+-[0-9]+", one))
            found += (integers("the range", one) or ()) if text else [one]
        return tuple(found) if isinstance(value, list | str | int) else value


def read(name: str, *, demo: bool) -> Grid:
    """The grid of a file: a path, or the name of one that comes with the project.

    Paths in it start at its folder. UserError for a file that is not there, is not YAML or holds
    unknown names.
    """
    with user_errors():
        path = Path(name) if Path(name).exists() else FOLDER / name
        if not path.exists():
            known = ", ".join(sorted(file.name for file in FOLDER.glob("*.yaml")))
            raise UserError(f"no grid file {name!r}; those of the project: {known}")
        file, lines = read_yaml(path, GridFile)
    axes = file.model_dump(exclude={"set", "rows"})
    for axis, allowed in (("protocol", tuple(protocols.PROTOCOLS)), ("models", methods.names())):
        for value in [file.protocol] if axis == "protocol" else file.models or ():
            if value not in allowed:
                raise UserError(
                    f"{place(path, lines, (axis,))}: no {axis.removesuffix('s')} {value!r}; "
                    f"allowed: {', '.join(allowed)}"
                )
    files: dict[str, Path] = {}
    given = _settings(file.set, path, lines, "set")
    rows, names = [], {}
    for number, row in enumerate(file.rows):
        if "name" in row:
            where = f"{place(path, lines, ('rows', number, 'name'))}: name"
            names[number] = row_name(row.pop("name"), where)
        settings = _settings(row, path, lines, "rows", number)
        for setting in settings:
            if setting.startswith(EXECUTION):
                raise UserError(
                    f"{settings.named(setting)} is the same for all runs: put it under `set`"
                )
        rows.append(replace_path(settings, files, path.parent))
    execution, settings = (
        Settings(
            {one: given[one] for one in given if one.startswith(EXECUTION) is of}, given.sources
        )
        for of in (True, False)
    )
    return Grid(
        **axes, demo=demo, files=files, rows=tuple(rows), names=names,
        settings=replace_path(settings, files, path.parent), execution=execution,
        sources={axis: f"{place(path, lines, (axis,))}: " for axis in axes if (axis,) in lines},
    )  # fmt: skip


def row_name(name: Any, where: str) -> str:
    """The title of a row, as it was given. `where`: the option or place in a file.

    UserError unless it is a short line of text.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UserError(f"{where} {name!r}: a title is wanted, in one line of text")
    if len(name) > NAME_LENGTH:
        raise UserError(f"{where} {name!r} has {len(name)} characters; at most {NAME_LENGTH}")
    return name.strip()


def _settings(values: dict[str, Any], path: Path, lines: Lines, *at: str | int) -> Settings:
    return Settings(values, {one: f"{place(path, lines, (*at, one))}:" for one in values})
