"""Read a torch checkpoint without running anything its pickle names (SPEC 8).

Tensors are rebuilt; every class that is not a tensor's becomes an inert `Stub` that keeps the
state it was given (the published files hold an OmegaConf object). A pickle that *calls*
something, which is how one runs code, is refused unless the call only makes a stub.
"""

from __future__ import annotations

import collections
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

#: What may really be looked up: how torch writes tensors, and plain containers.
REAL = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    **{("builtins", t.__name__): t for t in (bool, bytes, dict, float, int, list, set, str, tuple)},
}
#: Packages whose objects settings and counters are made of: a call to them makes a stub.
DATA_PACKAGES = ("omegaconf", "typing", "numpy", "yacs", "argparse", "enum", "pathlib")
DATA_CALLS = ("operator.getitem", "_operator.getitem", "copyreg._reconstructor", "_codecs.encode")


class _StubType(type):
    """Makes calling a stub class safe or refuses it."""

    path: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Stub:
        if cls.path.split(".")[0] not in DATA_PACKAGES and cls.path not in DATA_CALLS:
            raise ValueError(f"the checkpoint asks to call {cls.path}, which could run code")
        stub: Stub = type.__call__(cls, *args)
        return stub


class Stub(metaclass=_StubType):
    """Stands for an object of a class that is not imported; `state` is what it was given."""

    path = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        stub = object.__new__(cls)
        stub.state = args
        return stub

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Entries of a dict subclass; kept out, a stub is no container."""

    def append(self, value: Any) -> None:
        """Items of a list subclass; kept out as well."""

    def extend(self, values: Any) -> None:
        """The same, many at once."""

    state: Any


class Unpickler(pickle.Unpickler):
    """The restricted unpickler; torch adds to it how storages are read."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of that name if it is known to be harmless, else a new stub class."""
        if (module, name) in REAL:
            return REAL[module, name]
        dtype = getattr(torch, name, None) if module == "torch" else None
        if isinstance(dtype, torch.dtype):
            return dtype
        return _StubType(name, (Stub,), {"path": f"{module}.{name}"})


def load(file: BinaryIO, **options: Any) -> Any:
    """The `pickle.load` of this module, as torch expects one."""
    return Unpickler(file, **options).load()


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dict in a torch checkpoint, tensors on the CPU and mapped from the file.

    ValueError if the file is damaged, is no torch checkpoint or asks to run code.
    """
    what = f"{path} is damaged, truncated or not a torch checkpoint"
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{what}: it is no zip archive; fetch it again")
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("constants.pkl") for name in archive.namelist()):
            raise ValueError(f"{path} is a TorchScript program, which could run code; refused")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about custom unpicklers
            loaded = torch.load(
                path, map_location="cpu", weights_only=False, mmap=True, pickle_module=_Module
            )
    except ValueError as error:
        raise ValueError(
            f"{path} is refused: {error}; take only checkpoints that hold tensors and settings"
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, KeyError) as error:
        raise ValueError(f"{what}: {error}; fetch it again") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{what}: it holds a {type(loaded).__name__}, not a dict")
    return loaded


class _Module:
    """What torch takes for a pickle module."""

    Unpickler = Unpickler
    load = staticmethod(load)


def plain(value: Any) -> Any:
    """Settings out of stubs: OmegaConf containers and nodes as dicts, lists and scalars."""
    if isinstance(value, Stub):
        state = value.state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            state = state[1]
        if not isinstance(state, dict):
            return None
        return plain(state["_content"] if "_content" in state else state.get("_val"))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool) else None
