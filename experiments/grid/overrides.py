"""`--set train.lr=1e-5`: any setting by its dotted name, unknown ones refused with the nearest."""

from __future__ import annotations

import difflib
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
        parsed[name.strip()] = _value(value)
    return parsed


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set value {text!r} is not valid YAML: {error}") from error
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    return value


def apply(settings: M, changes: dict[str, Any], prefix: str) -> M:
    """`settings` with the changes whose names start with `prefix.`, validated anew."""
    data = settings.model_dump()
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if head == prefix:
            _put(data, rest, value, name)
    try:
        return type(settings).model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([prefix, *map(str, first["loc"])])
        raise UserError(f"--set {where}: {first['msg']} (given: {first['input']!r})") from error


def _put(data: dict[str, Any], path: str, value: Any, name: str) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        nested = data.get(parent)
        if not isinstance(nested, dict):
            raise UserError(f"--set {name}: {parent!r} has no fields of its own")
        data = nested
    data[leaf] = value


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


def _names(model: BaseModel, prefix: str) -> list[str]:
    names = []
    for field in type(model).model_fields:
        value = getattr(model, field)
        names.append(f"{prefix}.{field}")
        if isinstance(value, BaseModel):
            names += _names(value, f"{prefix}.{field}")
    return names
