"""Packages, GPU, shared memory, folders."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from experiments.doctor import machine


def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["nothing-like-it>=1", "pydantic>=999", "rich>=1", 'other; extra == "dev"']
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda name: wanted)
    finding = machine.required_packages()
    assert finding.ok is False
    assert "nothing-like-it is not installed; pydantic" in finding.detail
    assert "where >=999 is needed" in finding.detail
    assert "rich" not in finding.detail and "other" not in finding.detail
    assert "requirements.txt" in finding.remedy


@pytest.mark.parametrize(
    ("gpus", "driver", "ok", "said"),
    [
        (["NVIDIA H200 139 GiB"] * 2, "580.1\n", True, "H200 139 GiB, NVIDIA H200 139 GiB; CUDA"),
        ([], None, None, "no NVIDIA driver is loaded"),
        ([], "580.1\n", False, "driver 580.1 is loaded, but torch (CUDA 13.0) sees no GPU"),
    ],
)
def test_gpus(
    gpus: list[str],
    driver: str | None,
    ok: bool | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if driver is not None:
        (tmp_path / "version").write_text(driver)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    torch = {"gpus": gpus, "cuda": "13.0", "nccl": "2.27.5"}
    monkeypatch.setattr(machine, "run_python", lambda code: torch)
    finding = machine.gpu()
    assert finding.ok is ok
    assert said in finding.detail
    assert finding.ok or finding.remedy


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(2**26, 0, 2**26)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    finding = machine.shared_memory(tmp_path)
    assert finding.ok is False
    assert "0.1 of 0.1 GiB" in finding.detail
    assert "--shm-size" in finding.remedy
    assert machine.shared_memory(tmp_path / "none").ok is None


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = machine.folder("output folder", tmp_path / "a" / "b", "--out", for_runs=True)
    assert later.ok and "(will be made)" in later.detail
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(machine, "FREE_DISK", 2**60)
    full = machine.folder("output folder", tmp_path, "--out", for_runs=True)
    assert full.ok is False and "free at least" in full.remedy
    (tmp_path / "file").write_text("")
    wrong = machine.folder("cache folder", tmp_path / "file", "$TCCLIP_CACHE")
    assert wrong.ok is False and "Not a directory" in wrong.detail
    assert "$TCCLIP_CACHE" in wrong.remedy


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    finding = machine.folder("output folder", tmp_path, "--out", for_runs=True)
    assert finding.ok is False and "hard links" in finding.remedy and "--out" in finding.remedy
    assert machine.folder("cache folder", tmp_path, "$TCCLIP_CACHE").ok
    assert not list(tmp_path.iterdir())
