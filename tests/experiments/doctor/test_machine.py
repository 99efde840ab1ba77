"""Packages, GPUs, shared memory."""

import os
from pathlib import Path

import pytest

from experiments.doctor import machine


def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["nothing-like-it>=1", "pydantic>=999", "rich>=1", 'other; extra == "dev"']
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda name: wanted)
    (finding,) = machine.required_packages()
    assert finding.ok is False
    assert "nothing-like-it is not installed; pydantic" in finding.detail
    assert "where >=999 is needed" in finding.detail
    assert "rich" not in finding.detail and "other" not in finding.detail
    assert "requirements.txt" in finding.remedy


@pytest.mark.parametrize(
    ("driver", "built", "visible", "ok", "said"),
    [
        (None, "13.0", None, None, "install NVIDIA's driver"),
        ("580.1", None, None, False, "install the pinned torch"),
        ("580.1", "13.0", "", False, "unset CUDA_VISIBLE_DEVICES"),
        ("470.1", "13.0", None, False, "the driver must know CUDA 13.0"),
    ],
)
def test_no_gpu(
    driver: str | None,
    built: str | None,
    visible: str | None,
    ok: bool | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    finding = machine._no_gpu(driver, built)
    assert finding.ok is ok
    assert said in finding.remedy


@pytest.mark.parametrize(("nccl", "ok"), [("2.27.5", True), (None, False)])
def test_gpus(nccl: str | None, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"gpus": ["NVIDIA H200 139 GiB"] * 2, "cuda": "13.0", "nccl": nccl, "gloo": True}
    monkeypatch.setattr(machine, "probe", lambda code: seen)
    gpu, found = machine.gpus()
    assert gpu.ok and "NVIDIA H200 139 GiB, NVIDIA H200 139 GiB" in gpu.detail
    assert found.ok is ok


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = os.statvfs_result((4096, 4096, 16384, 16384, 16384, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda folder: small)
    (finding,) = machine.shared_memory(tmp_path)
    assert finding.ok is False
    assert "0.1 of 0.1 GiB" in finding.detail
    assert "--shm-size" in finding.remedy
    (finding,) = machine.shared_memory(tmp_path / "none")
    assert finding.ok is None
