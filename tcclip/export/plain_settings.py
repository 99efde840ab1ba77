"""What stands in an exported file for pydantic, as settings were checked when they were exported,
and for kernels, whose matching is the rest of the file's but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Settings = TypeVar("Settings", bound="FrozenModel")


class FrozenModel:
    """Settings by name; ValueError for an unknown or a missing one."""

    def __init__(self, **given: Any) -> None:
        values = {name: getattr(type(self), name, ...) for name in type(self).__annotations__}
        wrong = sorted(given.keys() - values.keys())
        values |= given
        wrong += [name for name, value in values.items() if value is ...]
        if wrong:
            raise ValueError(f"{type(self).__name__}: unknown or missing: {', '.join(wrong)}")
        vars(self).update(values)

    def model_copy(self: Settings, *, update: dict[str, Any]) -> Settings:
        """The same settings but for some."""
        return type(self)(**(vars(self) | update))


def Field(default: Any = ..., **_limits: Any) -> Any:
    """A setting's default."""
    return default


def field_validator(*_names: str) -> Callable[[Any], Any]:
    """Nothing is checked again."""
    return lambda method: method


def kernel_match(*_given: Any) -> None:
    """No kernels."""
