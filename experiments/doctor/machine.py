"""This machine: Python, packages, GPUs, shared memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from experiments.doctor.probes import Broken, probe
from experiments.doctor.report import Finding
from experiments.worker.provenance import packages

GIB = 2**30
#: Below this much shared memory loaders, NCCL and Ray's object store fail (Docker gives 64 MiB).
SHARED_MEMORY = GIB
DISTRIBUTION = "tcclip-sweeps"


def python() -> list[Finding]:
    """Whether this Python is new enough."""
    detail = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    try:
        wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        return [Finding("Python", True, detail)]
    if SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        return [Finding("Python", True, detail)]
    return [Finding("Python", False, detail, f"make the environment with Python {wanted}")]


def required_packages() -> list[Finding]:
    """What the project requires, against what is installed."""
    again = "install anew: pip install --require-hashes -r requirements.txt"
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("packages", False, f"{DISTRIBUTION} is not installed", "pip install -e .")]
    wrong = [text for text in map(_unmet, map(Requirement, required)) if text]
    versions = ", ".join(f"{name} {version}" for name, version in packages().items())
    if wrong:
        return [Finding("packages", False, f"{'; '.join(wrong)} ({versions})", again)]
    return [Finding("packages", True, versions)]


def _unmet(one: Requirement) -> str | None:
    if one.marker is not None and not one.marker.evaluate({"extra": ""}):
        return None
    try:
        version = importlib.metadata.version(one.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{one.name} is not installed"
    if one.specifier.contains(version, prereleases=True):
        return None
    return f"{one.name} {version} where {one.specifier} is needed"


# ---- GPUs ----

TORCH = """
import json, torch, torch.distributed as d
gpus = []
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        one = torch.ones(8, 8, device=i)
        assert (one @ one).sum().item() == 512
        gpus.append(f"{p.name} {p.total_memory / 2**30:.0f} GiB")
nccl = d.is_available() and d.is_nccl_available()
version = ".".join(map(str, torch.cuda.nccl.version())) if nccl else None
gloo = d.is_available() and d.is_gloo_available()
print(json.dumps({"gpus": gpus, "cuda": torch.version.cuda, "nccl": version, "gloo": gloo}))
"""


def gpus() -> list[Finding]:
    """GPUs torch can compute on, and what its workers talk through."""
    driver = _driver()
    try:
        found = probe(TORCH)
    except Broken as error:
        again = "if a GPU is named, see whether nvidia-smi works; else install torch anew"
        return [Finding("GPU", False, f"torch cannot be used: {error}", again)]
    gpus, built = found["gpus"], found["cuda"]
    if not gpus:
        return [_no_gpu(driver, built), _no_nccl(found["gloo"])]
    detail = f"{', '.join(gpus)}; torch's CUDA {built}; driver {driver or 'unknown'}"
    if found["nccl"] is None:
        anew = "install a torch with NCCL: the pinned one for Linux has it"
        return [Finding("GPU", True, detail), Finding("NCCL", False, "torch has none", anew)]
    return [Finding("GPU", True, detail), Finding("NCCL", True, found["nccl"])]


def _driver() -> str | None:
    """Version of NVIDIA's driver; None where no driver is loaded."""
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return "unknown" if Path("/dev/nvidiactl").exists() else None


def _no_gpu(driver: str | None, built: str | None) -> Finding:
    if driver is None:
        return Finding(
            "GPU", None, "no NVIDIA driver is loaded: runs use the CPU, enough for the demo only",
            "on a machine with a GPU install NVIDIA's driver; in a container also its Container "
            "Toolkit, and give the container the GPUs",
        )  # fmt: skip
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if built is None:
        detail, remedy = "this torch was built without CUDA", "install the pinned torch"
    elif visible is not None:
        detail = f"torch sees no GPU with CUDA_VISIBLE_DEVICES={visible!r}"
        remedy = "unset CUDA_VISIBLE_DEVICES, or name GPUs that nvidia-smi lists"
    else:
        detail = f"torch (CUDA {built}) sees no GPU"
        remedy = f"see whether nvidia-smi lists GPUs; the driver must know CUDA {built}"
    return Finding("GPU", False, f"driver {driver} is loaded, but {detail}", remedy)


def _no_nccl(gloo: bool) -> Finding:
    if gloo:
        return Finding("NCCL", None, "not used without a GPU: workers talk through gloo")
    return Finding("NCCL", False, "torch has no gloo either", "install the pinned torch")


# ---- Memory and disk ----


def shared_memory(folder: Path = Path("/dev/shm")) -> list[Finding]:
    """Whether loaders, NCCL and Ray have room in it."""
    name = "shared memory"
    if not folder.is_dir():
        return [Finding(name, None, f"no {folder} on this system")]
    state = os.statvfs(folder)
    free, size = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
    detail = f"{free / GIB:.1f} of {size / GIB:.1f} GiB free in {folder}"
    if free >= SHARED_MEMORY:
        return [Finding(name, True, detail)]
    if size >= SHARED_MEMORY:
        return [Finding(name, False, detail, f"remove what dead processes left in {folder}")]
    more = f"docker run --shm-size=8g; elsewhere mount -o remount,size=8G {folder}"
    return [Finding(name, False, detail, more)]
