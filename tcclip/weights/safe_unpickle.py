"""Make plain values of a pickle, by a machine of its own that can call nothing (SPEC 8).

`pickletools` takes a pickle apart; what its opcodes mean stands here. Tensors are rebuilt from what
they say of their storage; every other object becomes an inert `Stub` that keeps what it was given
(the published files hold an OmegaConf object, TorchScript programs their modules). A pickle that
*calls* something, which is how pickles run code, is refused unless the call only makes a stub.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tcclip.weights.stubs import Parts, Stub

#: What Python 2 called the builtins, protocol 2 of torch.save does still.
_BUILTINS = ("builtins", "__builtin__")
#: Calls that make a dict or a list of their last argument. Sets become lists: nothing is hashed.
_DICTS = {f"collections.{name}" for name in ("OrderedDict", "defaultdict", "Counter")} | {
    f"{module}.dict" for module in _BUILTINS
}
#: TorchScript writes lists of numbers by functions that return what they are given.
_LISTS = {
    *(f"{module}.{name}" for module in _BUILTINS for name in ("list", "set", "tuple", "frozenset")),
    *(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
    "torch.Size",
}
#: Packages of the objects in settings and counters: a call to them makes a stub.
DATA_PACKAGES = ("omegaconf", "typing", "numpy", "yacs", "argparse", "enum", "pathlib")
DATA_CALLS = {
    *("operator.getitem", "_operator.getitem", "_codecs.encode", "torch.device"),
    *("copyreg._reconstructor", "copy_reg._reconstructor"),
    *(f"{module}.{t}" for module in _BUILTINS for t in ("bool", "bytes", "float", "int", "str")),
}
DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
#: Far more than a training state with its optimiser has (about 100,000); each takes 200 bytes.
MAX_OPCODES = 2_000_000
#: An integer of more bits is no count, seed or random state.
MAX_BITS = 1024
_MARK = object()
SINCE_MARK = -1


class RunsCode(ValueError):
    """A pickle asks to call something."""


@dataclass(frozen=True, eq=False)
class Named:
    """A class or function that a pickle names; it is neither looked up nor imported."""

    path: str


@dataclass(frozen=True)
class Storage:
    """The bytes of one or several tensors."""

    data: torch.UntypedStorage
    dtype: torch.dtype


class Machine:
    """Reads pickles of one file.

    `storage`: the storage that a persistent id names. `max_bytes`: what all tensors may take
    together once they are copied; several can share a storage, and one can repeat its elements.
    """

    def __init__(self, storage: Callable[[tuple[Any, ...]], Any], max_bytes: int) -> None:
        self._storage = storage
        self._bytes_left = max_bytes
        self._parts = Parts("its pickle", MAX_OPCODES)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self, source: Any) -> Any:
        """The value of the next pickle in an open file or map, which stands behind it then.

        RunsCode if it asks to call something; a damaged pickle raises ValueError, LookupError,
        TypeError or a RuntimeError of torch.
        """
        self._stack, self._memo = [], {}
        for opcode, argument, _ in pickletools.genops(source):
            self._parts.take()
            self._step(opcode.name, argument)
        (value,) = self._stack
        return value

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _PUSHES:
            stack.append(_checked(argument))
        elif name in _MAKES:
            stack.append(_MAKES[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name in _FILLS:
            self._fill(name, self._taken(_FILLS[name]))
        elif name in _TAKES:
            stack.append(self._made(name, self._taken(_TAKES[name]), argument))
        elif name in _DROPS:
            self._taken(_DROPS[name])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"its pickle has the opcode {name}, which torch.save never writes")

    def _taken(self, count: int) -> list[Any]:
        """The last `count` values, or those since the last mark, taken off the stack."""
        first = len(self._stack) - count
        if count == SINCE_MARK:
            first = len(self._stack) - 1
            while first >= 0 and self._stack[first] is not _MARK:
                first -= 1
        if first < 0:
            raise ValueError("its pickle takes more than it has made")
        taken = self._stack[first:]
        del self._stack[first:]
        return taken[1:] if count == SINCE_MARK else taken

    def _fill(self, name: str, values: Sequence[Any]) -> None:
        """Put values into the dict or list on the top, or a state into a stub, which is no
        container."""
        top = self._stack[-1]
        if name == "BUILD":
            if isinstance(top, Stub):
                (top.state,) = values
        elif name.startswith("SETITEM") and isinstance(top, dict):
            top.update(zip(map(_key, values[::2]), values[1::2], strict=True))
        elif not name.startswith("SETITEM") and isinstance(top, list):
            top.extend(values)
        elif not isinstance(top, Stub):
            raise ValueError("its pickle puts items into something that is no container")

    def _made(self, name: str, values: list[Any], argument: Any) -> Any:
        """The value that an opcode makes of those it took."""
        if name == "LIST":
            return values
        if name == "DICT":
            return dict(zip(map(_key, values[::2]), values[1::2], strict=True))
        if name == "STACK_GLOBAL":
            return _named(*values)
        if name == "INST":
            return self._call(_named(*argument.split(" ", 1)), values)
        if name == "REDUCE":
            return self._call(*values)
        if name == "OBJ":
            return self._call(values[0], values[1:])
        if name in ("NEWOBJ", "NEWOBJ_EX"):
            # An object is made without calling its class: of any class it is a stub.
            cls, arguments = values[:2]
            made = isinstance(cls, Named) and cls.path not in _DICTS | _LISTS
            return Stub(cls.path, arguments) if made else self._call(cls, arguments)
        if name == "BINPERSID":
            return self._storage(values[0] if isinstance(values[0], tuple) else ())
        return tuple(values)

    def _call(self, function: Any, arguments: Any) -> Any:
        """What torch.save writes calls for, made here; a stub for data; RunsCode for the rest."""
        path = function.path if isinstance(function, Named) else None
        if path is None or not isinstance(arguments, tuple | list):
            raise ValueError("its pickle calls something that is no function")
        if path == "torch._utils._rebuild_tensor_v2":
            return self._tensor(*arguments)
        if path == "torch._utils._rebuild_parameter":
            return arguments[0]
        if path in _DICTS | _LISTS:
            self._parts.take(sum(len(x) for x in arguments if isinstance(x, dict | list | tuple)))
            given = arguments[-1] if arguments else ()
            return _dict_of(given) if path in _DICTS else list(_sequence(given))
        if path.split(".")[0] in DATA_PACKAGES or path in DATA_CALLS:
            return Stub(path, tuple(arguments))
        raise RunsCode(f"it asks to call {path[:100]}, which could run code")

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, _: Any = None, *rest: Any
    ) -> Tensor:
        """The elements of `storage` that offset, size and stride name, not copied.

        As `torch._utils._rebuild_tensor_v2`, but for what is outside the storage: set_ would
        make the storage larger. `rest`: hooks and, from 2.0, marks for views of other numbers.
        """
        if len(_sequence(size)) != len(_sequence(stride)) or len(size) > 64 or any(rest[1:]):
            raise ValueError("a tensor of its pickle is of a kind that holds no weights")
        numbers = [offset, *size, *stride]
        if not isinstance(storage, Storage) or any(type(x) is not int or x < 0 for x in numbers):
            raise ValueError("a tensor of its pickle has an impossible storage, size or stride")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and last >= storage.data.nbytes() // storage.dtype.itemsize:
            raise ValueError("a tensor of its pickle is larger than its storage")
        self._bytes_left -= count * storage.dtype.itemsize
        if self._bytes_left < 0:
            raise ValueError("its tensors would take far more memory than the file")
        empty = torch.empty(0, dtype=storage.dtype)
        return empty.set_(storage.data, offset if count else 0, tuple(size), tuple(stride))


#: Opcodes that push their argument, an empty container or a constant.
_PUSHES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
}
_MAKES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}  # fmt: skip
#: How many values an opcode takes off the stack to make a value, to fill the one below, or for
#: nothing.
_TAKES = {
    **{"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "STACK_GLOBAL": 2, "BINPERSID": 1},
    **{"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3},
    **dict.fromkeys(("TUPLE", "LIST", "DICT", "FROZENSET", "INST", "OBJ"), SINCE_MARK),
}
_FILLS = {
    **{"APPEND": 1, "SETITEM": 2, "BUILD": 1},
    **dict.fromkeys(("APPENDS", "SETITEMS", "ADDITEMS"), SINCE_MARK),
}
_DROPS = {"POP": 1, "POP_MARK": SINCE_MARK}


def _named(module: Any, name: Any) -> Any:
    """The dtype of that name, or the name alone."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("its pickle names a class by something that is no text")
    if module in ("torch", "torch.cuda") and name in DTYPES:
        return DTYPES[name]
    dtype = vars(torch).get(name) if module == "torch" else None  # getattr may import
    return dtype if isinstance(dtype, torch.dtype) else Named(f"{module}.{name}")


def _checked(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError(f"its pickle holds an integer of {value.bit_length():,} bits")
    return value


def _key(key: Any) -> Any:
    """A key of a dict: text or a number. Others are told apart by identity, since hashing a tuple
    can overflow the stack, and chosen numbers can all have the same hash."""
    plain = key is None or isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**60)
    return key if plain else Stub("key", key)


def _dict_of(given: Any) -> dict[Any, Any]:
    """A dict of nothing, of a dict or of pairs."""
    if isinstance(given, Named) or given is None:  # defaultdict's way to make values
        return {}
    pairs = given.items() if isinstance(given, dict) else map(_sequence, _sequence(given))
    return {_key(key): value for key, value in pairs}


def _sequence(value: Any) -> tuple[Any, ...] | list[Any]:
    if not isinstance(value, tuple | list):
        raise ValueError("its pickle has something else where a list belongs")
    return value
