"""`--set train.lr=1e-5`: any setting by its dotted name, unknown ones refused with the nearest."""

from __future__ import annotations

import difflib
import functools
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from experiments.errors import UserError

M = TypeVar("M", bound=BaseModel)

#: YAML 1.1 reads 1e-5 as a string: it wants 1.0e-5.
_EXPONENT = re.compile(r"[+-]?\d+\.?\d*[eE][+-]?\d+")


def parse(assignments: Sequence[str]) -> dict[str, Any]:
    """`["train.lr=1e-5"]` -> `{"train.lr": 1e-05}`; values are YAML scalars or lists."""
    parsed: dict[str, Any] = {}
    for text in assignments:
        name, found, value = text.partition("=")
        if not found or not name:
            raise UserError(f"--set {text!r}: write NAME=VALUE, e.g. --set train.lr=1e-5")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set value {value!r} is not valid YAML: {error}") from error
        exponent = isinstance(read, str) and _EXPONENT.fullmatch(read)
        parsed[name.strip()] = float(read) if exponent else read
    return parsed


def apply(settings: M, changes: dict[str, Any], prefix: str) -> M:
    """`settings` with the changes whose names start with `prefix.`, validated anew.

    The names must have passed `check_names`.
    """
    data = settings.model_dump()
    for name, value in changes.items():
        root, *parents, leaf = name.split(".")
        if root == prefix:
            functools.reduce(operator.getitem, parents, data)[leaf] = value
    try:
        return type(settings).model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([prefix, *map(str, first["loc"])])
        raise UserError(f"--set {where}: {first['msg']} (given: {first['input']!r})") from error


def changed_settings(
    before: Mapping[str, BaseModel], after: Mapping[str, BaseModel]
) -> tuple[str, ...]:
    """The settings that differ, as `name=value` with their new values, sorted."""
    old, new = (
        dict(flat({root: model.model_dump(mode="json") for root, model in roots.items()}))
        for roots in (before, after)
    )
    return tuple(f"{name}={new[name]}" for name in sorted(new) if old.get(name) != new[name])


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted name, value) pairs."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def check_names(names: Iterable[str], roots: Mapping[str, BaseModel]) -> None:
    """UserError for a name that is no setting, with the nearest one that is."""
    known = sorted(name for root, model in roots.items() for name in _names(model, root))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise UserError(f"--set {name}: no such setting; the nearest is {near!r}")


def _names(model: BaseModel, prefix: str) -> Iterator[str]:
    for field, value in model:
        yield f"{prefix}.{field}"
        if isinstance(value, BaseModel):
            yield from _names(value, f"{prefix}.{field}")
