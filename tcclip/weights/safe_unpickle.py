"""Read a torch checkpoint without running anything its pickle names (SPEC 8).

Tensors are rebuilt; every other class becomes an inert `Stub` that keeps the state it was given
(the published files hold an OmegaConf object). A pickle that *calls* something, which is how
pickles run code, is refused unless the call only makes a stub.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

#: The objects that are looked up: how torch writes tensors, and plain containers.
ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    **{("builtins", t.__name__): t for t in (bool, bytes, dict, float, int, list, set, str, tuple)},
}
#: Packages of the objects in settings and counters: a call to them makes a stub.
DATA_PACKAGES = ("omegaconf", "typing", "numpy", "yacs", "argparse", "enum", "pathlib")
DATA_CALLS = ("operator.getitem", "_operator.getitem", "copyreg._reconstructor", "_codecs.encode")


class _StubType(type):
    """Calling a stub class makes a stub, or is refused if the real call could run code."""

    path: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Stub:
        if cls.path.split(".")[0] not in DATA_PACKAGES and cls.path not in DATA_CALLS:
            raise ValueError(f"the checkpoint asks to call {cls.path}, which could run code")
        stub: Stub = type.__call__(cls, *args)
        return stub


class Stub(metaclass=_StubType):
    """Takes the place of an object whose class is not imported; `state` is what it was given."""

    path = ""
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        stub = object.__new__(cls)
        stub.state = args
        return stub

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def _ignore(self, *values: Any) -> None:
        """Entries of a dict or list subclass: a stub is no container."""

    __setitem__ = append = extend = _ignore


class Unpickler(pickle.Unpickler):
    """The restricted unpickler; torch derives from it to read storages."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of that name if it is known to be harmless, else a new stub class."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        dtype = getattr(torch, name, None) if module == "torch" else None
        if isinstance(dtype, torch.dtype):
            return dtype
        return _StubType(name, (Stub,), {"path": f"{module}.{name}"})


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dict in a torch checkpoint, tensors on the CPU and mapped from the file.

    ValueError if the file is damaged, is no torch checkpoint or asks to run code.
    """
    damaged = f"{path} is damaged, truncated or not a torch checkpoint"
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{damaged}: it is no zip archive; fetch it again")
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("constants.pkl") for name in archive.namelist()):
            raise ValueError(f"{path} is a TorchScript program, which could run code; refused")
    try:
        loaded = torch.load(
            path,
            map_location="cpu",
            weights_only=False,
            mmap=True,
            pickle_module=SimpleNamespace(__name__=__name__, Unpickler=Unpickler),
        )
    except ValueError as error:
        raise ValueError(
            f"{path} is refused: {error}; take only checkpoints that hold tensors and settings"
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, KeyError) as error:
        raise ValueError(f"{damaged}: {error}; fetch it again") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{damaged}: it holds a {type(loaded).__name__}, not a dict")
    return loaded


def to_plain(value: Any) -> Any:
    """Stubs to plain values: OmegaConf containers and nodes as dicts, lists and scalars."""
    if isinstance(value, Stub):
        state = value.state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            state = state[1]
        if not isinstance(state, dict):
            return None
        return to_plain(state["_content"] if "_content" in state else state.get("_val"))
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool) else None
