"""Files that hold no weights, or only a part of them: each is named, with what to do."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tcclip.model import build_model, load_checkpoint
from tcclip.model.checkpoints import convert, describe
from tcclip.weights import safe_unpickle
from tcclip.weights.layouts import look_at
from tcclip.weights.weight_files import read_file
from tests.tcclip.model.builders import NAMES, small_config, small_model
from tests.tcclip.weights.made import Calls, openai_state, save_openai_script

STATE = {
    "visual.conv1.weight": torch.arange(300.0),
    "transformer.resblocks.0.ln_1.bias": -torch.ones(9),
}


def saved(form: str) -> bytes:
    file = io.BytesIO()
    torch.save(STATE, file, _use_new_zipfile_serialization=form == "zip")
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("best.pth"))
    return file.getvalue()


def packed() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("TC-CLIP/best.pth", b"x")
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 599\n"
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; download it again"),
    "page": (b"<!DOCTYPE html>", "web page .*download it again"),
    "page with a mark": (b"\xef\xbb\xbf\n\n  <HTML><head>", "web page"),
    "error in xml": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
    "error in json": (b'{"error": "Repository not found"}', "JSON"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "model-00001.bin"}}', "lists the shards"),
    "pointer": (POINTER, "git LFS pointer.*git lfs pull"),
    "text": (b"Access denied\n", "text that begins with 'Access denied"),
    "zeros": (bytes(5000), "zeros"),
    "gzip": (gzip.compress(saved("zip")), "gzip.*unpack"),
    "tar": (tar(), "tar archive; unpack"),
    "packed": (packed(), "TC-CLIP/best.pth; unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    "noise": (bytes(range(200, 256)), "begins with c8 c9 ca"),
    "half a zip": (saved("zip")[:1500], "its end is missing.*download it again"),
    "start of a zip": (saved("zip")[:10], "download it again"),
    "half a pickle": (saved("legacy")[:900], "download it again"),
    "start of a pickle": (saved("legacy")[:20], "download it again"),
    "pickle of something else": (b"\x80\x04K\x05.", "download it again"),
    "half of safetensors": (b"", ""),
    "header of safetensors": ((2**20).to_bytes(8, "little") + b'{"a": {"dtype"', "is cut or"),
    "wrong header of safetensors": ((12).to_bytes(8, "little") + b"{not json at", "is cut or"),
}


def readers(target: Path) -> list[Callable[[Path], Any]]:
    """Every way a user's file is read."""
    return [
        read_file,
        describe,
        lambda path: convert(path, target),
        lambda path: load_checkpoint(small_model(), path),
        lambda path: build_model(small_config(), NAMES, clip_weights=path),
    ]


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "bin"])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_weights_is_named(tmp_path: Path, kind: str, suffix: str) -> None:
    content, message = WRONG[kind]
    path = tmp_path / f"ViT-B-16.{suffix}"
    path.write_bytes(content)
    if kind == "half of safetensors":
        save_file(STATE, path)
        os.truncate(path, 600)
        message = "is cut or changed"
    for read in readers(tmp_path / "own.safetensors")[: None if suffix == "pt" else 2]:
        with pytest.raises(ValueError, match=rf"(?s)ViT-B-16\.{suffix} is damaged.*{message}"):
            read(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder; give the file of weights in it"):
        read_file(tmp_path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "zipped again", "script"])
def test_what_is_whole_is_read_whatever_its_name(tmp_path: Path, form: str) -> None:
    """The first bytes say the format; tensors come out equal to the bit."""
    path, expected = tmp_path / "weights.download", STATE
    if form == "safetensors":
        save_file(STATE, path)
    elif form == "script":
        expected = {n: x.half() for n, x in openai_state().items()}
        save_openai_script(path, openai_state())
    else:
        path.write_bytes(saved(form.replace("zipped again", "zip")))
    if form == "zipped again":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "unpacked")
        shutil.make_archive(str(tmp_path / "again"), "zip", tmp_path / "unpacked")
        path = tmp_path / "again.zip"
    state = look_at(path).state
    assert all(torch.equal(state[name], x) for name, x in expected.items())


def test_a_member_that_was_cut_or_moved(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pt"
    whole.write_bytes(saved("zip"))
    with zipfile.ZipFile(whole) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in content if name.endswith("data/0")]
    for damage in (content[name][:100], None):
        with zipfile.ZipFile(tmp_path / "cut.pt", "w") as archive:
            for one, data in content.items():
                written = damage if one == name else data
                if written is not None:
                    archive.writestr(one, written)
        with pytest.raises(ValueError, match=r"cut\.pt is damaged.*data/0"):
            read_file(tmp_path / "cut.pt")
    with zipfile.ZipFile(whole) as archive:
        start = archive.getinfo(name).header_offset
    with whole.open("r+b") as file:
        file.seek(start)
        file.write(b"xx")
    with pytest.raises(ValueError, match=r"whole\.pt is damaged"):
        look_at(whole)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_nothing_is_run(tmp_path: Path, form: str) -> None:
    trace, path = tmp_path / "ran", tmp_path / "bad.pt"
    torch.save(STATE | {"config": Calls(trace)}, path, _use_new_zipfile_serialization=form == "zip")
    for read in readers(tmp_path / "own.safetensors"):
        with pytest.raises(ValueError, match=r"bad\.pt is refused: it asks to call posix\.system"):
            read(path)
    assert not trace.exists()


def test_more_parts_than_memory_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(STATE | {"odd": list(range(2000))}, tmp_path / "case.pt")
    assert len(read_file(tmp_path / "case.pt")["odd"]) == 2000
    monkeypatch.setattr(safe_unpickle, "MAX_OPCODES", 1000)  # two millions take seconds
    with pytest.raises(ValueError, match="more than 1,000"):
        read_file(tmp_path / "case.pt")
