"""Grid files: a sweep written down as YAML, e.g. one of the paper's ablations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from experiments.errors import UserError
from experiments.grid.plan import Grid
from experiments.grid.weights_file import replace_path
from tcclip.config import FrozenModel

#: The grid files that come with the project.
FOLDER = Path(__file__).parent / "ablations"


class GridFile(FrozenModel):
    """What a grid file holds; names are those of the command's options.

    `rows`: one entry of settings a row of the table, each added to `set`.
    """

    protocol: str
    datasets: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    variants: tuple[str, ...] = ("base",)
    shots: tuple[int, ...] | None = None
    splits: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = Field(default=({},), min_length=1)


def read(name: str, *, demo: bool) -> Grid:
    """The grid of a file: a path, or the name of one that comes with the project.

    Paths in it start at its folder. UserError for a file that is not there, is not YAML or holds
    unknown names.
    """
    path = Path(name)
    if not path.is_file():
        path = FOLDER / name
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in FOLDER.glob("*.yaml")))
        raise UserError(f"no grid file {name!r}; those of the project: {known}")
    try:
        file = GridFile.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: {where}: {first['msg']}") from error
    axes = file.model_dump(exclude={"set", "rows"})
    files: dict[str, Path] = {}
    settings = replace_path(file.set, files, path.parent)
    rows = tuple(replace_path(row, files, path.parent) for row in file.rows)
    return Grid(**axes, demo=demo, settings=settings, rows=rows, files=files)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. UserError if it is missing, is not YAML or is no mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `name: value` lines, got {type(content).__name__}")
    return content
