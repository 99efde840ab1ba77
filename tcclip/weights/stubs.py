"""What stands for the objects in a file of weights, and what is taken out of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

#: Modules and settings are nested this deep at most, and hold this many others; a pickle can hold
#: itself, and one part under many names.
MAX_DEPTH, MAX_PARTS = 50, 300_000


class Stub:
    """Takes the place of an object of the class `path`; `state` is what it was given."""

    __slots__ = ("path", "state")

    def __init__(self, path: str, state: Any) -> None:
        self.path, self.state = path, state


class Parts:
    """Counts the parts that are gone through: `most` of them at most."""

    def __init__(self, what: str, most: int) -> None:
        self.what, self.most, self.left = what, most, most

    def take(self, count: int = 1) -> None:
        """ValueError once there are more than any real file has."""
        self.left -= count
        if self.left < 0:
            raise ValueError(f"{self.what} has more than {self.most:,} parts, or holds itself")


def module_tensors(module: Stub, depth: int = 0, parts: Parts | None = None) -> dict[str, Tensor]:
    """The tensors of a pickled module or a TorchScript program, by their dotted names."""
    parts = parts or Parts("its module", MAX_PARTS)
    members = module.state if isinstance(module.state, dict) else {}
    if "_modules" in members:  # pickled whole; TorchScript keeps everything in one dict
        groups = [members.get(name) for name in ("_parameters", "_buffers", "_modules")]
        members = {n: x for one in groups if isinstance(one, dict) for n, x in one.items()}
    parts.take(len(members))
    found: dict[str, Tensor] = {}
    for name, value in members.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Stub) and depth < MAX_DEPTH:
            inner = module_tensors(value, depth + 1, parts)
            found |= {f"{name}.{below}": x for below, x in inner.items()}
    return found


def named_settings(config: Any, depth: int = 0, parts: Parts | None = None) -> dict[str, Any]:
    """The texts and numbers in nested settings by their names, outer ones before inner ones of the
    same name; of dicts, and of OmegaConf's containers and nodes."""
    parts = parts or Parts("its config", MAX_PARTS)
    if depth > MAX_DEPTH:
        raise ValueError(f"its settings are nested deeper than {MAX_DEPTH} levels")
    content = _opened(config)
    inner: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, given in content.items() if isinstance(content, dict) else ():
        parts.take()
        value = _opened(given)
        if isinstance(value, dict):
            inner |= named_settings(value, depth + 1, parts)
        elif isinstance(value, str | int | float):
            own[str(name)] = value
    return inner | own


def _opened(value: Any) -> Any:
    """What an OmegaConf container or node holds, None for another stub; other values themselves."""
    if not isinstance(value, Stub):
        return value
    state = value.state
    if isinstance(state, tuple) and len(state) == 2:
        state = state[1]
    return state.get("_content", state.get("_val")) if isinstance(state, dict) else None
