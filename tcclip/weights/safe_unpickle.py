"""Read what `torch.save` or `torch.jit.save` wrote, without running anything it names (SPEC 8).

Tensors are rebuilt; every other class becomes an inert `Stub` that keeps the state it was given
(the published files hold an OmegaConf object, TorchScript programs their modules). A pickle that
*calls* something, which is how pickles run code, is refused unless the call only makes a stub.
"""

from __future__ import annotations

import collections
import pickle
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

#: The objects that are looked up: how torch writes tensors, and plain containers.
ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "Counter"): collections.Counter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    # As Python 2 named its builtins, protocol 2 of torch.save does still.
    **{
        (module, t.__name__): t
        for module in ("builtins", "__builtin__")
        for t in (bool, bytes, dict, float, int, list, set, str, tuple)
    },
}
#: Packages of the objects in settings and counters: a call to them makes a stub.
DATA_PACKAGES = ("omegaconf", "typing", "numpy", "yacs", "argparse", "enum", "pathlib")
DATA_CALLS = (
    "operator.getitem",
    "_operator.getitem",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "_codecs.encode",
)
#: How TorchScript writes lists of numbers: the functions return what they are given.
SCRIPT_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
#: Modules are nested this deep at most; a pickle can hold itself.
MAX_DEPTH = 50


class RunsCode(ValueError):
    """A pickle asks to call something."""


class _StubType(type):
    """Calling a stub class makes a stub, or is refused if the real call could run code."""

    path: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Stub:
        if cls.path.split(".")[0] not in DATA_PACKAGES and cls.path not in DATA_CALLS:
            raise RunsCode(f"it asks to call {cls.path}, which could run code")
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
    """The restricted unpickler; torch derives from it to read files of the time before 1.6."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of that name if it is known to be harmless, else a new stub class."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if module in ("torch", "torch.cuda") and name in DTYPES:
            return DTYPES[name]
        if module == "torch.jit._pickle" and name in SCRIPT_LISTS:
            return list
        dtype = getattr(torch, name, None) if module == "torch" else None
        if isinstance(dtype, torch.dtype):
            return dtype
        return _StubType(name, (Stub,), {"path": f"{module}.{name}"})


class _ZipUnpickler(Unpickler):
    """Of an archive: `data.pkl` refers to the members `data/N`, which are mapped, not read."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}data.pkl"))
        self.archive, self.folder = archive, folder
        self.file = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
        self.storages: dict[str, torch.UntypedStorage] = {}

    def persistent_load(self, saved: Any) -> torch.TypedStorage:
        """The storage that ("storage", dtype, member, device, elements) names."""
        _, dtype, key, _, count = saved
        if key not in self.storages:
            self.storages[key] = self._member(f"{self.folder}data/{key}", count * dtype.itemsize)
        return torch.TypedStorage(wrap_storage=self.storages[key], dtype=dtype, _internal=True)

    def _member(self, name: str, size: int) -> torch.UntypedStorage:
        info = self.archive.getinfo(name)
        if info.file_size < size:
            raise ValueError(f"{name} has {info.file_size} of {size} bytes")
        if info.compress_type != zipfile.ZIP_STORED:
            content = bytearray(self.archive.read(info))
            return torch.frombuffer(content, dtype=torch.uint8).untyped_storage()
        # What stands before a member's content: 30 bytes, its name, and padding.
        header = bytes(self.file[info.header_offset : info.header_offset + 30].tolist())
        signature, name_length, padding = struct.unpack("<4s22xHH", header)
        start = info.header_offset + 30 + name_length + padding
        if signature != b"PK\x03\x04" or start + size > self.file.nbytes():
            raise ValueError(f"{name} is not where the archive says")
        mapped: torch.UntypedStorage = self.file[start : start + size]
        return mapped if start % 8 == 0 else mapped.clone()


def read_torch_file(path: Path) -> Any:
    """What is in the file: tensors on the CPU, containers, plain values and stubs.

    `RunsCode` if it asks to run code; a damaged file raises almost anything.
    """
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return _read_zip(path)
    plain = SimpleNamespace(
        __name__=__name__, Unpickler=Unpickler, load=lambda file, **_: Unpickler(file).load()
    )
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=plain)


def _read_zip(path: Path) -> Any:
    """`torch.save` and `torch.jit.save` write the same archive; a program has code beside it."""
    if not zipfile.is_zipfile(path):
        raise ValueError("its end is missing")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        found = [name for name in names if f"/{name}".endswith("/data.pkl")]
        if not found:
            raise ValueError(f"it is an archive of {', '.join(names[:3]) or 'nothing'}; unpack it")
        folder = min(found, key=len).removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") == b"big":
            raise ValueError("it was written on a big-endian machine; save it again on another")
        return _ZipUnpickler(path, archive, folder).load()


def module_tensors(module: Stub, depth: int = 0) -> dict[str, Tensor]:
    """The tensors of a pickled module or a TorchScript program, by their dotted names."""
    members = module.state if isinstance(module.state, dict) else {}
    if "_modules" in members:  # pickled whole; TorchScript keeps everything in one dict
        groups = [members.get(name) for name in ("_parameters", "_buffers", "_modules")]
        members = {name: x for one in groups for name, x in (one or {}).items()}
    found: dict[str, Tensor] = {}
    for name, value in members.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Stub) and depth < MAX_DEPTH:
            inner = module_tensors(value, depth + 1)
            found |= {f"{name}.{below}": x for below, x in inner.items()}
    return found


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
