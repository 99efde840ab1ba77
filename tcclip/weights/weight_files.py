"""Read a file of weights, whatever wrote it: safetensors, `torch.save` old and new, TorchScript.

The format is told by the first bytes, not by the name: files are renamed. Nothing in a file is
run, and tensors are mapped where the format allows, so that looking at a file costs little.
"""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from tcclip.weights.parameter_names import printable
from tcclip.weights.safe_unpickle import RunsCode
from tcclip.weights.torch_files import read_torch_file

AGAIN = "download it again"
#: What is found where weights were expected: first bytes (lower case), what it is, what to do.
OTHER_FILES = (
    (b"version https://git-lfs", "a git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"<", "a web page (HTML or XML), perhaps an error or log-in page", AGAIN),
    (b"\x00" * 64, "zeros: the download did not end", AGAIN),
    (b"{", "JSON text", "give the file of weights that belongs to it"),
    (b"[", "JSON text", "give the file of weights that belongs to it"),
    (b"\x1f\x8b", "compressed (gzip)", "unpack it"),
    (b"bzh", "compressed (bzip2)", "unpack it"),
    (b"\xfd7zxz", "compressed (xz)", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)", "unpack it"),
    (b"7z\xbc\xaf", "compressed (7z)", "unpack it"),
    (b"rar!", "compressed (rar)", "unpack it"),
    (b"\x89hdf", "HDF5, as Keras and TensorFlow write", "take the PyTorch file instead"),
    (b"gguf", "GGUF", "take the PyTorch file instead"),
    (b"\x93numpy", "a NumPy array", "take the PyTorch file instead"),
)
#: The file names that shards of one model are listed in hold this word.
INDEX = b'"weight_map"'
#: No model that this program runs has a header of 1 MB in a file of safetensors.
MAX_HEADER = 2**24


def read_file(path: Path, *, in_memory: bool = False) -> Any:
    """What a file holds: dicts of tensors and plain values, or stubs (`safe_unpickle`).

    `in_memory`: tensors are read, not mapped, for a file that is replaced while they are in use.
    FileNotFoundError if it is not there; ValueError, which names it, says what it is instead and
    what to do, if it is damaged, no file of weights or asks to run code.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file of weights in it")
    if not path.exists():
        raise FileNotFoundError(f"no file of weights at {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a pipe or a device; give a file of weights")
    with path.open("rb") as file:
        head = file.read(512)
        return _read(path, file, head, in_memory)


def _read(path: Path, file: io.BufferedReader, head: bytes, in_memory: bool) -> Any:
    try:
        if _begins_safetensors(head):
            return load_file(path)
        # A zip archive, or a pickle of the time before torch 1.6.
        if head.startswith((b"PK", b"\x80")):
            return read_torch_file(file, in_memory=in_memory)
    except MemoryError:
        raise
    except Exception as error:
        # A damaged pickle or archive raises anything. It may point to before the beginning of the
        # file (EINVAL); other errors of the system are the disk's.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        cause = printable(str(error) or type(error).__name__)
        if isinstance(error, RunsCode):
            text = f"{path} is refused: {cause}; take only files that hold tensors and settings"
            raise ValueError(text) from error
        what = "is cut or changed" if isinstance(error, SafetensorError) else "cannot be read"
        raise ValueError(damaged(path, f"it {what} ({cause})", AGAIN)) from error
    raise ValueError(damaged(path, *_what_it_is(path, head)))


def is_safetensors(path: Path) -> bool:
    """Whether a file has the format safetensors, whatever its name is."""
    with path.open("rb") as file:
        return _begins_safetensors(file.read(9))


def _begins_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER


def damaged(path: Path, what: str, remedy: str) -> str:
    """The message for a file that cannot be read."""
    return f"{path} is damaged, truncated or no file of weights: {what}; {remedy}"


def _what_it_is(path: Path, head: bytes) -> tuple[str, str]:
    """What a file is that holds no weights, and what to do."""
    if not head:
        return "it is empty", AGAIN
    if INDEX in head or path.name.endswith(".index.json"):
        return "it lists the shards of a model", "save the model as one file and give that"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for first, what, remedy in OTHER_FILES:
        if head.lower().startswith(first) or text.startswith(first):
            return f"it is {what}", remedy
    if head[257:262] == b"ustar":
        return "it is a tar archive", "unpack it"
    printable = head[:60].decode("ascii", "replace")
    if printable.isascii() and printable.replace("\n", "").isprintable():
        return f"it is text that begins with {printable!r}", AGAIN
    return f"it begins with {head[:8].hex(' ')}, which no known format does", AGAIN
