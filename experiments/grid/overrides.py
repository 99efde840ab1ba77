"""`--set train.lr=1e-5`: any setting by its dotted name, unknown ones refused with the nearest."""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from experiments.errors import UserError, user_errors
from tcclip.text_files import mistake, parse_yaml, scalar, validate

M = TypeVar("M", bound=BaseModel)


class Settings(dict[str, Any]):
    """Dotted names -> values. `sources`: where each was given, as messages say it."""

    def __init__(
        self, values: Mapping[str, Any] | None = None, sources: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(values or {})
        self.sources = dict(sources or getattr(values, "sources", {}))

    def __or__(self, others: Mapping[str, Any]) -> Settings:  # type: ignore[override]
        """These with `others`, which win."""
        kept = {name: self.sources[name] for name in self.sources if name not in others}
        return Settings({**self, **others}, kept | getattr(others, "sources", {}))

    def named(self, name: str) -> str:
        """A setting as messages call it: `--set train.lr`, `grid.yaml:3: train.lr`."""
        return f"{self.sources.get(name, '--set')} {name}"


def parse(assignments: Sequence[str]) -> Settings:
    """`["train.lr=1e-5"]` -> `{"train.lr": 1e-05}`.

    Values are numbers, true, false, null and texts as in YAML; what begins with a bracket or a
    quotation mark is YAML. UserError for a name that is given twice.
    """
    parsed = Settings()
    for text in assignments:
        name, found, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not found or not name:
            raise UserError(f"--set {text!r}: write NAME=VALUE, e.g. --set train.lr=1e-5")
        with user_errors():
            read = scalar(value)
            if value[:1] in ("[", "{", '"', "'"):
                read, _ = parse_yaml(value, f"--set {name}: the value {value!r:.80}")
        if name in parsed and parsed[name] != read:
            raise UserError(f"--set {name} is given twice: {parsed[name]!r} and {read!r}; drop one")
        parsed[name] = read
    return parsed


def apply(settings: M, changes: Mapping[str, Any], prefix: str) -> M:
    """`settings` with the changes whose names start with `prefix.`, validated anew.

    Types are taken strictly: `true` is no number. The names must have passed `check_names`.
    """
    changed = {name: value for name, value in changes.items() if name.startswith(f"{prefix}.")}
    if not changed:
        return settings
    data = settings.model_dump(mode="json")
    for name, value in changed.items():
        _, *parents, leaf = name.split(".")
        functools.reduce(operator.getitem, parents, data)[leaf] = value
    try:
        return validate(type(settings), data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([prefix, *map(str, first["loc"])])
        name = next((one for one in changed if f"{where}.".startswith(f"{one}.")), where)
        before = Settings(changes).named(name).removesuffix(name)
        raise UserError(before + mistake({**first, "loc": (prefix, *first["loc"])})) from error


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


def check_names(settings: Mapping[str, Any], roots: Mapping[str, BaseModel]) -> None:
    """UserError for a name that is no setting, with the nearest one that is, and for one that is
    a part of another."""
    given = Settings(settings)
    known = sorted(name for root, model in roots.items() for name in _names(model, root))
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise UserError(f"{given.named(name)}: no such setting; the nearest is {near!r}")
        whole = next((one for one in settings if name.startswith(f"{one}.")), None)
        if whole is not None:
            raise UserError(
                f"{given.named(name)} is a part of {given.named(whole)}: set one of the two"
            )


def _names(model: BaseModel, prefix: str) -> Iterator[str]:
    for field, value in model:
        yield f"{prefix}.{field}"
        if isinstance(value, BaseModel):
            yield from _names(value, f"{prefix}.{field}")
