"""Files made to deceive or to overwhelm: nothing is run, and one message comes out, soon."""

import io
import json
import os
import pickle
import re
import struct
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cli
from tcclip.config import ModelConfig
from tcclip.model import load_checkpoint
from tcclip.model.checkpoints import describe, save_checkpoint
from tcclip.weights.clip_weights import checked_clip
from tcclip.weights.weight_files import read_file
from tests.tcclip.model.builders import small_model
from tests.tcclip.model.test_checkpoints import published
from tests.tcclip.weights.made import as_module, openai_state, save_openai_script

STATE = {"visual.conv1.weight": torch.ones(3), "transformer.resblocks.0.ln_1.bias": torch.ones(9)}


class Writes(nn.Module):
    """A program that writes a file of its choosing when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        torch.save(state[0], "ran")
        self.w, self.training = state[0], state[1]


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def program() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, its files are still there
        torch.jit.save(torch.jit.script(Writes()), file)
    return file.getvalue()


def entries(directory: bytes) -> Iterator[int]:
    """Where the members of an archive's directory are described."""
    at = 0
    while at < len(directory):
        yield at
        at += 46 + sum(struct.unpack_from("<3H", directory, at + 28))


def parts(archive: bytes, by: int = 0) -> tuple[bytes, bytes]:
    """An archive's members, and its directory with all members `by` bytes further."""
    size, start = struct.unpack_from("<2L", archive, archive.rindex(b"PK\5\6") + 12)
    directory = bytearray(archive[start : start + size])
    for at in entries(directory):
        (offset,) = struct.unpack_from("<L", directory, at + 42)
        struct.pack_into("<L", directory, at + 42, (offset + by) % 2**32)
    return archive[:start], bytes(directory)


def whole(members: bytes, directory: bytes, where: int | None = None) -> bytes:
    """An archive whose directory is said to be at `where`, by default where it is."""
    count = len(list(entries(directory))) % 2**16
    start = len(members) if where is None else where
    sizes = (0, 0, count, count, len(directory), start, 0)
    return members + directory + struct.pack("<4s4H2LH", b"PK\5\6", *sizes)


def two_directories(theirs: bytes, ours: bytes) -> bytes:
    """PyTorch's reader finds the first archive's members, Python's the second's.

    One takes the directory from where it is said to be, the other from before the archive's end.
    """
    members, directory = parts(theirs)
    _, second = parts(ours)
    size = max(len(directory), len(second))
    directory = lengthened(directory, size)
    more, second = parts(ours, by=len(members) - len(parts(ours)[0]))
    first = members + directory
    return whole(first + more, lengthened(second, size), where=len(members))


def lengthened(directory: bytes, size: int) -> bytes:
    """A directory whose last member has a comment, as many members as before."""
    *_, last = entries(directory)
    by = size - len(directory)
    return directory[: last + 32] + struct.pack("<H", by) + directory[last + 34 :] + bytes(by)


def archive(pickled: bytes, data: bytes = b"", compress: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compress) as made:
        made.writestr("archive/data.pkl", pickled)
        made.writestr("archive/data/0", data)
    return file.getvalue()


def overlapping() -> bytes:
    """A megabyte that the archive describes as ten members."""
    members, directory = parts(archive(b"N.", bytes(2**20)))
    one = directory[directory.rindex(b"PK\1\2") :]
    return whole(members, directory + b"".join(one[:-1] + b"%d" % i for i in range(1, 10)))


def encrypted() -> bytes:
    members, directory = parts(saved(STATE))
    changed = bytearray(directory)
    for at in entries(directory):
        changed[at + 8] |= 1
    return whole(members, bytes(changed))


class Saved:
    """Stands for a storage: what a pickle refers to by `saved`."""

    def __init__(self, *saved: Any) -> None:
        self.saved = saved


class Refers(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.saved if isinstance(value, Saved) else None


class Rebuilt:
    """Stands for a tensor that is made of these arguments."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (*self.arguments, False, {})


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    Refers(file, 2).dump(content)
    return file.getvalue()


FLOATS = Saved("storage", torch.FloatStorage, "0", "cpu", 4)
HUGE = Saved("storage", torch.FloatStorage, "0", "cpu", 2**45)


def tensor(storage: Any = FLOATS, offset: Any = 0, size: Any = (4,), stride: Any = (1,)) -> bytes:
    return archive(pickled({"w": Rebuilt(storage, offset, size, stride)}), bytes(16))


def refers(*saved: Any) -> bytes:
    return tensor(Saved(*saved))


def old(storage: Saved, listed: list[str]) -> bytes:
    """A file of the time before torch 1.6, without the bytes of its storages."""
    content = {"w": Rebuilt(Saved(*storage.saved, None), 0, (4,), (1,))}
    return b"".join(map(pickled, (0x1950A86A20F9469CFC6C, 1001, {}, content, listed)))


def endless_dict() -> Any:
    inner: dict[str, Any] = {"weight": torch.ones(1)}
    for _ in range(5):
        inner = dict.fromkeys(map(str, range(40)), inner)
    return inner


def endless_module() -> nn.Module:
    module = as_module({"w": torch.ones(1)})
    for _ in range(12):
        above = as_module({"w": torch.ones(1)})
        above._modules |= dict.fromkeys("abcdefgh", module)
        module = above
    return module


def tar_with_pipe() -> bytes:
    """torch.load takes what begins so for the oldest format, and waits for ever at the pipe."""
    file, pipe = io.BytesIO(), tarfile.TarInfo("storages")
    pipe.type = tarfile.FIFOTYPE
    with tarfile.open(None, "w", file, format=tarfile.GNU_FORMAT, encoding="latin-1") as made:
        made.addfile(tarfile.TarInfo("\x80"))
        made.addfile(pipe)
    return file.getvalue()


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def numpy_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


MANY = 1_000_000
LONG = (2**40).to_bytes(8, "little")
SYSTEM = "asks to call os.system"
NOTHING = "holds no tensor by name"
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a program": (program, NOTHING),
    "a program after an archive": (lambda: saved(STATE) + program(), NOTHING),
    "many members of the same bytes": (overlapping, "lie over each other"),
    "an encrypted archive": (encrypted, "encrypted"),
    "an endless directory": (lambda: whole(b"PK\3\4", bytes(46) * 400_000), "18,400,000 bytes"),
    "a bomb": (lambda: archive(b"N.", bytes(2**27), zipfile.ZIP_DEFLATED), "would unpack to 134"),
    "a bomb by bzip2": (lambda: archive(b"N.", bytes(2**20), zipfile.ZIP_BZIP2), "never writes"),
    "nested deeply": (lambda: archive(b"]" * 100_000 + b"a" * 99_999 + b"."), NOTHING),
    "a nested key": (lambda: archive(b"})" + b"\x85" * 100_000 + b"Ns."), NOTHING),
    "a memo of 16 GB": (lambda: archive(b"]r\xff\xff\xff\x7f."), NOTHING),
    "itself": (lambda: archive(b"}q\0X\1\0\0\0ah\0sX\1\0\0\0bh\0s."), NOTHING),
    "many copies": (
        lambda: archive(b"(" + b"N" * MANY + b"lq\0cbuiltins\nlist\nq\1" + b"h\1h\0\x85R" * 9),
        "more than 2,000,000"),
    "an endless dict": (lambda: saved(endless_dict()), "holds itself"),
    "an endless module": (lambda: saved(endless_module()), "holds itself"),
    "a huge text": (lambda: archive(b"X\xff\xff\xff\x7fabc."), "damaged"),
    "huge bytes": (lambda: archive(b"\x8e" + LONG + b"abc."), "damaged"),
    "huge bytes, old": (lambda: b"\x80\2\x8e" + LONG + b"abc.", "damaged"),
    "a huge number": (lambda: archive(b"\x8b\0\0\1\0" + b"\1" * 2**16 + b"."), "524,281 bits"),
    "names that are no text": (lambda: saved({1: torch.ones(2), None: 3}), NOTHING),
    "a long name": (lambda: saved({"x" * MANY: torch.ones(1)}), "up to 1,000,000 characters"),
    "a name for a terminal": (lambda: saved({"\x1b[2J\ud800": torch.ones(1)}), r"\(\?\[2J\?\)"),
    "no storage": (lambda: tensor(3), "impossible storage"),
    "another kind": (lambda: refers("tensor", torch.FloatStorage, "0", "cpu", 4), "unknown way"),
    "no tuple": (lambda: archive(b"NQ."), "unknown way"),
    "too few": (lambda: refers("storage", torch.FloatStorage), "unknown way"),
    "no dtype": (lambda: refers("storage", dict, "0", "cpu", 4), "unknown way"),
    "a number as key": (lambda: refers("storage", torch.FloatStorage, 0, "cpu", 4), "unknown way"),
    "another path": (lambda: refers("storage", torch.FloatStorage, "../x", "cpu", 4), "data/../x"),
    "less than nothing": (lambda: refers("storage", torch.FloatStorage, "0", "cpu", -4), "less"),
    "more than there is": (lambda: tensor(HUGE), "data/0 has 16 of"),
    "too large": (lambda: tensor(size=(5,)), "larger than its"),
    "too far": (lambda: tensor(offset=2**62, stride=(2**62,)), "larger than its"),
    "a negative stride": (lambda: tensor(offset=3, stride=(-1,)), "impossible"),
    "a negative size": (lambda: tensor(size=(-4,)), "impossible"),
    "no number": (lambda: tensor(size=("4",)), "impossible"),
    "no stride": (lambda: tensor(size=(2, 2)), "holds no weights"),
    "one number again and again": (
        lambda: tensor(size=(10**9, 10**9), stride=(0, 0)), "far more memory"),
    "larger than the file, old": (lambda: old(HUGE, []), "larger than the file"),
    "no bytes, old": (lambda: old(FLOATS, ["0"]), "another size"),
    "not listed, old": (lambda: old(FLOATS, []), "not those"),
    "a tar with a pipe": (tar_with_pipe, "damaged"),
    "a call": (lambda: archive(b"cos\nsystem\n(S'touch ran'\ntR."), SYSTEM),
    "a call by INST": (lambda: archive(b"(S'touch ran'\nios\nsystem\n."), SYSTEM),
    "a call by OBJ": (lambda: archive(b"(cos\nsystem\nS'touch ran'\no."), SYSTEM),
    "a call by another": (
        lambda: archive(b"\x80\4\x8c\2os\x8c\6system\x93\x8c\x09touch ran\x85R."), SYSTEM),
    "an extension": (lambda: archive(b"\x82\1."), "opcode EXT1"),
    "a long header": (lambda: safetensors(b"{" + b" " * 90 * MANY), "damaged"),
    "a deep header": (lambda: safetensors(b'{"a":' * 10**5), "damaged"),
    "a name in a header": (
        lambda: safetensors(b'{"\\u001b[2":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"),
        r"\(\?\[2\)"),
    "numpy": (numpy_file, "NumPy"),
    "TensorFlow": (lambda: b"\x00\x00\x17\x0c" + bytes(100), "no known format"),
}  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one message of a command that cannot do what it was asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tcclip", *arguments])
        assert cli.main() == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_is_run_and_one_message_comes_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make, message = HOSTILE[kind]
    monkeypatch.chdir(tmp_path)
    Path("case.pt").write_bytes(make())
    assert re.search(
        rf"(?s)tcclip: case\.pt.*{message}", run(capsys, "checkpoint", "show", "case.pt")
    )
    assert os.listdir() == ["case.pt"]  # noqa: PTH208


def test_two_readers_see_two_archives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever PyTorch's own reader would find: one reader decides and loads."""
    monkeypatch.chdir(tmp_path)
    deceives = two_directories(program(), saved(STATE))
    Path("case.pt").write_bytes(deceives)
    assert "constants.pkl" in torch._C.PyTorchFileReader("case.pt").get_all_records()
    assert torch.equal(read_file(Path("case.pt"))["visual.conv1.weight"], torch.ones(3))
    assert describe("case.pt")["format"] == "clip"
    for command in (
        ["evaluate", "zero_shot", "--demo", "--checkpoint", "case.pt"],
        ["checkpoint", "convert", "case.pt", "own.safetensors"],
        ["sweep", "zero_shot", "--demo", "--set", "train.clip_weights=case.pt"],
        ["sweep", "zero_shot", "--demo", "--init-checkpoint", "case.pt"],
    ):
        assert "case.pt" in run(capsys, *command)
    assert not Path("ran").exists() and not Path("own.safetensors").exists()


def test_a_json_that_describes_another_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(small_model(), path)
    beside = path.with_suffix(".json")
    good = json.loads(beside.read_text())
    for name, size, message in (("vision_layers", 10**9, r"no model: .*layers: .*1000000000\)$"),
                                ("vision_layers", 7, r"other sizes than the json .*\(vision_lay"),
                                ("num_frames", 10**9, r"no model: num_frames: ")):  # fmt: skip
        sizes = {"geometry": good["model"]["geometry"] | {name: size}}
        sizes = {name: size} if name == "num_frames" else sizes
        beside.write_text(json.dumps(good | {"model": good["model"] | sizes}))
        assert re.search(message, run(capsys, "checkpoint", "show", str(path)), re.MULTILINE)
    beside.write_text("[" * 10**5)
    assert "best.json is damaged" in run(capsys, "checkpoint", "show", str(path))


def changed(good: bytes, random: Random) -> bytes:
    """Up to three places cut out, repeated, overwritten or moved; most where it is described."""
    data = bytearray(good)
    for _ in range(random.randint(1, 3)):
        near = random.choice((2**9, 2**15, len(data)))
        at = random.randrange(max(len(data), 1))
        at = random.choice((at, at % near, -(at % near))) % max(len(data), 1)
        part = data[at : at + random.choice((1, 2, 8, 50))]
        number = random.choice((0, 1, 255, 2**31 - 1, 2**32 - 1, 2**63 - 1))
        match random.choice(("flip", "number", "cut", "repeat", "move", "end")):
            case "flip":
                data[at : at + 1] = bytes([random.randrange(256)])
            case "number":
                data[at : at + 8] = number.to_bytes(8, "little")[: random.choice((1, 4, 8))]
            case "cut":
                del data[at : at + len(part)]
            case "repeat":
                data[at:at] = part * random.choice((1, 2, 1000))
            case "move":
                data[random.randrange(len(data)) :][: len(part)] = part
            case "end":
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["zip", "legacy", "script", "safetensors", "state"])
def test_changed_files_are_read_or_refused(
    tmp_path: Path, form: str, rounds: int, recwarn: pytest.WarningsRecorder
) -> None:
    path, random, model = tmp_path / "case.safetensors", Random(form), small_model(name="vifi_clip")
    if form == "safetensors":
        save_checkpoint(model, path)
    elif form == "script":
        save_openai_script(path, openai_state())
    elif form == "state":
        torch.save({"model": published(model), "progress": {"step": 1, "best_epoch": 0}}, path)
    else:
        content = {"model": published(model), "config": {"num_frames": 4}, "epoch": 3}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    good = path.read_bytes()
    read: list[Callable[[], Any]] = [
        lambda: read_file(path, in_memory=True),
        lambda: describe(path),
        lambda: load_checkpoint(model, path),
        lambda: checked_clip(path, ModelConfig()),
    ]
    for i in range(rounds):
        path.write_bytes(changed(good, random))
        for one in read[: 1 if form == "state" else None]:
            try:
                one()
            except (ValueError, FileNotFoundError) as error:
                assert str(path) in str(error), f"round {i}"
