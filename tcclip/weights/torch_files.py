"""The two forms of what `torch.save` and `torch.jit.save` write, read without torch.load.

A file is opened once, and one reader decides what is in it and reads it: other readers, PyTorch's
own among them, may see other members in an archive that was made to deceive.
"""

from __future__ import annotations

import io
import mmap
import zipfile
import zlib
from typing import Any

import torch

from tcclip.weights.safe_unpickle import Machine, Storage

#: The first values in a file of the time before torch 1.6.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: The directory of an archive, and its pickle, are larger in no file of weights.
MAX_DIRECTORY, MAX_PICKLE = 2**24, 2**28
#: Compressed members may be so many times larger than the file, or have so many bytes together.
MAX_RATIO, ALWAYS_ALLOWED = 10, 2**26
#: Tensors may take so many times the bytes of their file: several can share a storage.
SHARED = 4


def read_torch_file(file: io.BufferedReader, *, in_memory: bool = False) -> Any:
    """What is in an open file: tensors on the CPU, containers, plain values and stubs.

    Tensors of an archive are mapped; `in_memory`: they are read and compared with their checksums.
    RunsCode if it asks to run code; a damaged file raises ValueError, or almost anything else.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if mapped[:2] == b"PK":
        return _Archive(file, mapped, in_memory).read()
    return _Legacy(mapped).read()


class _SmallReads(io.FileIO):
    """Refuses a directory that no file of weights has, before it is read."""

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__(file.fileno(), closefd=False)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise ValueError(f"its directory has {size:,} bytes")
        return super().read(-1 if size is None else size)


class _Archive:
    """What `torch.save` and `torch.jit.save` write; a program has code beside `data.pkl`, which
    refers to the members `data/N`."""

    def __init__(self, file: io.BufferedReader, mapped: mmap.mmap, in_memory: bool) -> None:
        if not zipfile.is_zipfile(file):
            raise ValueError("its end is missing")
        with zipfile.ZipFile(_SmallReads(file)) as archive:
            members = archive.infolist()
        names = [member.filename for member in members]
        found = [name for name in names if f"/{name}".endswith("/data.pkl")]
        if not found:
            raise ValueError(f"it is an archive of {', '.join(names[:3]) or 'nothing'}; unpack it")
        if len(set(names)) < len(names) or sum(x.compress_size for x in members) > len(mapped):
            raise ValueError("its members lie over each other")
        #: Of all members, unpacked.
        self.size = len(mapped) + sum(x.file_size - x.compress_size for x in members)
        if self.size > max(ALWAYS_ALLOWED, MAX_RATIO * len(mapped)):
            raise ValueError(f"its {len(mapped):,} bytes would unpack to {self.size:,}")
        folder = min(found, key=len).removesuffix("data.pkl")
        below = [x for x in members if x.filename.startswith(folder)]
        self.members = {x.filename.removeprefix(folder): x for x in below}
        self.mapped, self.file = mapped, file if in_memory else None
        self.storages: dict[str, torch.UntypedStorage] = {}

    def read(self) -> Any:
        """What `data.pkl` describes."""
        if "byteorder" in self.members and bytes(self._content("byteorder")) == b"big":
            raise ValueError("it was written on a big-endian machine; save it again on another")
        pickled = self.members["data.pkl"]
        if pickled.file_size > MAX_PICKLE:
            raise ValueError(f"its pickle has {pickled.file_size:,} bytes")
        content = io.BytesIO(self._content("data.pkl"))
        return Machine(self._storage, max(ALWAYS_ALLOWED, SHARED * self.size)).load(content)

    def _place(self, name: str) -> tuple[int, int]:
        """Where the bytes of a member begin and end."""
        member = self.members[name]
        # What stands before a member's content: 30 bytes, its name, and padding.
        at = member.header_offset
        header = self.mapped[max(at, 0) : at + 30]
        start = at + 30 + sum(int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
        end = start + member.compress_size
        if at < 0 or header[:4] != b"PK\3\4" or end > len(self.mapped) or member.flag_bits & 1:
            raise ValueError(f"{name} is not where the archive says, or encrypted")
        return start, end

    def _content(self, name: str) -> memoryview:
        """A member's bytes, mapped unless they are compressed."""
        member = self.members[name]
        start, end = self._place(name)
        content = memoryview(self.mapped)[start:end]
        if member.compress_type == zipfile.ZIP_DEFLATED:
            unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.file_size)
            content = memoryview(bytearray(unpacked))
        elif member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed in a way that torch.save never writes")
        if len(content) != member.file_size:
            raise ValueError(f"{name} has {len(content)} of {member.file_size} bytes")
        return content

    def _storage(self, saved: tuple[Any, ...]) -> Storage:
        """The storage that ("storage", dtype, member, device, elements) names."""
        dtype, key, count = _described(saved, 5)
        if key not in self.storages:
            self.storages[key] = self._bytes_of(f"data/{key}")
        data = self.storages[key]
        if data.nbytes() < count * dtype.itemsize:
            raise ValueError(f"data/{key} has {data.nbytes()} of {count * dtype.itemsize} bytes")
        return Storage(data, dtype)

    def _bytes_of(self, name: str) -> torch.UntypedStorage:
        content = self._content(name)
        if not content:
            return torch.UntypedStorage(0)
        if self.file is not None and self.members[name].compress_type == zipfile.ZIP_STORED:
            return self._read(name, self.file)
        found = torch.frombuffer(content, dtype=torch.uint8)
        return (found if found.data_ptr() % 8 == 0 else found.clone()).untyped_storage()

    def _read(self, name: str, file: io.BufferedReader) -> torch.UntypedStorage:
        """A member's bytes in memory; ValueError if they have changed since they were written."""
        start, end = self._place(name)
        found = torch.empty(end - start, dtype=torch.uint8)
        content = found.numpy().data
        file.seek(start)
        file.readinto(content)
        if zlib.crc32(content) != self.members[name].CRC:
            raise ValueError(f"{name} does not have the checksum that was written with it")
        return found.untyped_storage()


class _Legacy:
    """Of the time before torch 1.6: five pickles, then each storage's count and bytes."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.mapped, self.left = mapped, len(mapped)
        self.storages: dict[str, Storage] = {}

    def read(self) -> Any:
        """What the fourth pickle describes; the third is about the machine that wrote it."""
        machine = Machine(self._storage, max(ALWAYS_ALLOWED, SHARED * len(self.mapped)))
        if machine.load(self.mapped) != MAGIC or machine.load(self.mapped) != PROTOCOL:
            raise ValueError("it is a pickle, but torch.save did not write it")
        machine.load(self.mapped)
        value, keys = machine.load(self.mapped), machine.load(self.mapped)
        if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
            raise ValueError("it does not list its storages")
        if set(keys) != set(self.storages):
            raise ValueError("the storages that it lists are not those of its tensors")
        for key in keys:
            self._fill(self.storages[key])
        return value

    def _storage(self, saved: tuple[Any, ...]) -> Any:
        """The storage that ("storage", dtype, key, device, elements, view) names, still empty."""
        if len(saved) == 4 and saved[0] == "module":  # a class, where it was defined, and how
            return saved[1]
        dtype, key, count = _described(saved, 6)
        if key not in self.storages:
            self.left -= count * dtype.itemsize
            if self.left < 0:
                raise ValueError("its storages are larger than the file")
            self.storages[key] = Storage(torch.UntypedStorage(count * dtype.itemsize), dtype)
        whole = self.storages[key]
        if whole.data.nbytes() < count * dtype.itemsize:
            raise ValueError(f"its storage {key[:20]} has two sizes")
        if saved[5] is None:
            return Storage(whole.data, dtype)
        _, first, length = saved[5]
        return Storage(
            whole.data[first * dtype.itemsize : (first + length) * dtype.itemsize], dtype
        )

    def _fill(self, storage: Storage) -> None:
        size = storage.data.nbytes()
        written = self.mapped.read(8)
        start = self.mapped.tell()
        count = int.from_bytes(written, "little")
        if len(written) < 8 or count * storage.dtype.itemsize != size:
            raise ValueError("a storage has another size than its tensors say")
        if start + size > len(self.mapped):
            raise ValueError("its last tensors are missing")
        if size:
            content = torch.frombuffer(self.mapped, dtype=torch.uint8, count=size, offset=start)
            storage.data.copy_(content.untyped_storage()[:size])
        self.mapped.seek(start + size)


def _described(saved: tuple[Any, ...], length: int) -> tuple[torch.dtype, str, int]:
    """dtype, key and number of elements of the storage that a persistent id names."""
    if len(saved) != length or saved[0] != "storage":
        raise ValueError("its pickle refers to a storage in an unknown way")
    dtype, key, _, count = saved[1:5]
    if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int:
        raise ValueError("its pickle refers to a storage in an unknown way")
    if count < 0:
        raise ValueError("a storage of its pickle has less than no elements")
    return dtype, key, count
