"""This machine: packages, GPU, shared memory, folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from experiments.doctor.report import Finding, ProcessFailed, run_python
from experiments.worker.provenance import packages

GIB = 2**30
#: Below this much shared memory loaders, NCCL and Ray's object store fail (Docker gives 64 MiB).
SHARED_MEMORY = GIB
#: What a full-size run keeps while it trains, rounded up.
FREE_DISK = 5 * GIB
#: Has the version of NVIDIA's driver while it is loaded.
DRIVER = Path("/sys/module/nvidia/version")
REINSTALL = "pip install --require-hashes -r requirements.txt"


def required_packages() -> Finding:
    """Whether every package the project requires is installed, in a version it works with."""
    unmet = []
    for one in map(Requirement, importlib.metadata.requires("tcclip-sweeps") or []):
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            unmet.append(f"{one.name} is not installed")
            continue
        if not one.specifier.contains(version, prereleases=True):
            unmet.append(f"{one.name} {version} where {one.specifier} is needed")
    installed = ", ".join(f"{name} {version}" for name, version in packages().items())
    detail = f"Python {platform.python_version()} on {platform.platform()}; {installed}"
    if unmet:
        return Finding("packages", False, f"{'; '.join(unmet)} ({detail})", REINSTALL)
    return Finding("packages", True, detail)


# ---- GPU ----

TORCH = """
import json, torch, torch.distributed as distributed
gpus = []
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        one = torch.ones(8, 8, device=i)
        assert (one @ one).sum().item() == 512
        gpus.append(f"{p.name} {p.total_memory / 2**30:.0f} GiB")
nccl = distributed.is_available() and distributed.is_nccl_available()
version = ".".join(map(str, torch.cuda.nccl.version())) if nccl else "none"
print(json.dumps({"gpus": gpus, "cuda": torch.version.cuda, "nccl": version}))
"""


def gpu() -> Finding:
    """Whether torch can compute on the GPUs of this machine."""
    try:
        torch = run_python(TORCH)
    except ProcessFailed as error:
        remedy = f"if a GPU is named, check that nvidia-smi works; else {REINSTALL}"
        return Finding("GPU", False, f"torch cannot be used: {error}", remedy)
    driver = DRIVER.read_text().strip() if DRIVER.is_file() else None
    if torch["gpus"]:
        versions = f"CUDA {torch['cuda']}, NCCL {torch['nccl']}, driver {driver or 'unknown'}"
        return Finding("GPU", True, f"{', '.join(torch['gpus'])}; {versions}")
    if driver is None:
        detail = "no NVIDIA driver is loaded: runs use the CPU, enough for the demo only"
        remedy = (
            "on a machine with a GPU install NVIDIA's driver; in a container also NVIDIA's "
            "Container Toolkit, and give the container the GPUs"
        )
        return Finding("GPU", None, detail, remedy)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    detail = (
        f"driver {driver} is loaded, but torch (CUDA {torch['cuda']}) sees no GPU; "
        f"CUDA_VISIBLE_DEVICES: {visible!r}"
    )
    remedy = (
        "unset CUDA_VISIBLE_DEVICES or name GPUs that nvidia-smi lists; the driver must support "
        f"torch's CUDA; for a torch without CUDA: {REINSTALL}"
    )
    return Finding("GPU", False, detail, remedy)


# ---- Memory and folders ----


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Whether loaders, NCCL and Ray have enough shared memory."""
    name = "shared memory"
    if not folder.is_dir():
        return Finding(name, None, f"no {folder} on this system")
    size, _, free = shutil.disk_usage(folder)
    detail = f"{free / GIB:.1f} of {size / GIB:.1f} GiB free in {folder}"
    if free >= SHARED_MEMORY:
        return Finding(name, True, detail)
    remedy = (
        f"remove what ended processes left in {folder}, or make it larger: docker run "
        f"--shm-size=8g, elsewhere mount -o remount,size=8G {folder}"
    )
    return Finding(name, False, detail, remedy)


def folder(name: str, path: Path, option: str, for_runs: bool = False) -> Finding:
    """Whether files can be written in `path`, or where it will be made; `option` names it.

    `for_runs`: leases need hard links there, and checkpoints need space.
    """
    place = next(one for one in (path, *path.parents) if one.exists())
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".tcclip-doctor-") as scratch:
            file = Path(scratch) / "file"
            file.write_bytes(bytes(2**16))
            if for_runs:
                os.link(file, file.with_name("link"))
    except OSError as error:
        links = ", on a file system with hard links," if for_runs else ""
        remedy = f"make {place} a folder you may write to{links} or choose another with {option}"
        return Finding(name, False, f"{path} cannot be used: {error}", remedy)
    free = shutil.disk_usage(place).free
    detail = f"{path}{'' if place == path else ' (will be made)'}, {free / GIB:.1f} GiB free"
    if for_runs and free < FREE_DISK:
        remedy = f"free at least {FREE_DISK / GIB:.0f} GiB there, or choose another with {option}"
        return Finding(name, False, detail, remedy)
    return Finding(name, True, detail)
