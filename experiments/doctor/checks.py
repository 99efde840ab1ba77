"""The checks: packages, GPU, memory, folders, decoders, weights, data sets, store, MLflow, Ray."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from packaging.requirements import Requirement

from experiments.cluster import find_ray
from experiments.datasets.check.check import check
from experiments.datasets.fetch import verify
from experiments.datasets.paths import DataPaths
from experiments.doctor.report import Finding
from experiments.errors import MissingData
from experiments.machine import cpu_count
from experiments.processes import ProcessFailed, run_python
from experiments.scheduler.signals import time_limit
from experiments.store.files import check_exclusive
from experiments.tracking.connection import redact_url, sqlite_file, sync_command
from experiments.worker.memory import loader_processes
from experiments.worker.provenance import packages
from protocols.datasets import Dataset
from results.reading.location import Location, check_reachable
from tcclip.config import AugmentConfig, Execution, ModelConfig

# ---- Packages ----

GIB = 2**30
#: Below this much shared memory NCCL may fail, and Ray's object store is on disk (Docker gives
#: 64 MiB).
SHARED_MEMORY = GIB
#: Of the largest batch on a GPU: 64 clips of the full-size model.
BATCH_BYTES = 64 * ModelConfig().num_frames * 3 * AugmentConfig().crop ** 2
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
    """Whether NCCL and Ray have enough shared memory; loaders share their batches elsewhere."""
    name = "shared memory"
    if not folder.is_dir():
        return Finding(name, None, f"no {folder} on this system")
    size, _, free = shutil.disk_usage(folder)
    detail = f"{free / 2**20:,.0f} of {size / 2**20:,.0f} MiB free in {folder}"
    if free >= SHARED_MEMORY:
        return Finding(name, True, detail)
    remedy = (
        "runs of one worker do without; for runs on several GPUs (NCCL) remove what ended "
        f"processes left in {folder}, or make it larger: docker run --shm-size=8g, elsewhere "
        f"mount -o remount,size=8G {folder}"
    )
    return Finding(name, None, detail, remedy)


def loaders() -> Finding:
    """How many processes would load the videos of a run that has this machine to itself."""
    name, cpus = "loaders", cpu_count()
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        remedy = "free some space in /dev/shm; until then runs load their videos themselves, slowly"
        return Finding(name, False, f"no process that loads videos can start: {error}", remedy)
    wanted, _ = loader_processes(Execution(), cpus, 0)
    fit, why = loader_processes(Execution(), cpus, BATCH_BYTES)
    detail = f"{fit} for a run that is alone here ({cpus} CPUs), through memory without a name"
    if fit == wanted:
        return Finding(name, True, f"{detail}; a batch takes up to {BATCH_BYTES / 2**20:.0f} MiB")
    return Finding(name, None, f"{detail}: {why.partition('; ')[0]}", why.partition("; ")[2])


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


def frame_cache(data_paths: DataPaths) -> Finding:
    """Where decoded frames are kept, and how many."""
    store = data_paths.frame_store("auto")
    if store is None:
        remedy = "free some space, or choose another folder with $TCCLIP_CACHE"
        return Finding("decoded frames", None, "none can be kept: the disk is full", remedy)
    place = next(one for one in (store.folder, *store.folder.parents) if one.exists())
    free = shutil.disk_usage(place).free / 1e9
    detail = f"kept in {store.folder}, up to {store.limit / 1e9:.3g} GB (--cache-size)"
    return Finding("decoded frames", True, f"{detail}; {free:.3g} GB are free")


# ---- Decoders ----

#: 8 frames of 64 x 48 in H.264, each brighter than the one before.
VIDEO, FRAMES = Path(__file__).with_name("doctor.mp4"), 8
DECORD = """
import decord, json, sys
decord.logging.set_level(decord.logging.QUIET)
reader = decord.VideoReader(sys.stdin.read(), num_threads=1)
print(json.dumps([float(reader[i].asnumpy().mean()) for i in range(len(reader))]))
"""
PYAV = """
import av, json, sys
with av.open(sys.stdin.read()) as container:
    frames = [float(f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
print(json.dumps(frames))
"""


def decord() -> Finding:
    """Whether decord decodes a video correctly; few runs need it."""
    use = "needed by --set augment.reader=published alone"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Finding("decord", None, f"none for this platform; {use}")
    found = decoder("decord", DECORD, f"{use}: pip install decord==0.6.0")
    return found if found.ok else replace(found, ok=None)


def decoder(name: str, code: str, remedy: str) -> Finding:
    """Whether `code`, in its own process, prints the brightness of the small video's frames."""
    try:
        brightness = run_python(code, str(VIDEO))
    except ProcessFailed as error:
        return Finding(name, False, f"cannot decode a small H.264 video: {error}", remedy)
    if len(brightness) != FRAMES or brightness != sorted(set(brightness)):
        return Finding(name, False, f"wrong frames from {VIDEO.name}: {brightness}", remedy)
    return Finding(name, True, f"decoded {FRAMES} frames of a small H.264 video")


# ---- Weights ----

#: Where open_clip downloads OpenAI's ViT-B/16 from.
CLIP_REPOSITORY, CLIP_FILE = "timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors"


def clip_weights() -> Finding:
    """Whether OpenAI's ViT-B/16 can be loaded without a network."""
    name, path = "CLIP weights", try_to_load_from_cache(CLIP_REPOSITORY, CLIP_FILE)
    if isinstance(path, str):
        return Finding(name, True, f"cached: {path}")
    remedy = (
        f"once, with a network: hf download {CLIP_REPOSITORY}; or copy a filled cache here and "
        "set $HF_HOME to it"
    )
    if constants.HF_HUB_OFFLINE:
        return Finding(name, False, "not cached, and HF_HUB_OFFLINE forbids the download", remedy)
    detail = "not cached: the first run downloads them (the demo needs none)"
    return Finding(name, None, detail, remedy)


# ---- Data sets ----


def annotation_lists(data_paths: DataPaths) -> Finding:
    """Whether the annotation lists are as published."""
    name, folder, named = "annotations", data_paths.annotations, 3
    if folder is None:
        remedy = "tcclip data fetch, then give the folder with --annotations or $TCCLIP_ANNOTATIONS"
        return Finding(name, None, "no folder given: only the demo and own data can run", remedy)
    wrong = [f"{one.path} ({one.kind})" for one in verify(folder) if one.known]
    if not wrong:
        return Finding(name, True, f"{folder} is as published")
    examples = ", ".join(wrong[:named]) + (", ..." if len(wrong) > named else "")
    detail = f"{len(wrong)} files of {folder} are missing or changed: {examples}"
    return Finding(name, False, detail, f"tcclip data fetch --to {folder}")


def video_folders(data_paths: DataPaths) -> list[Finding]:
    """Whether the videos of each data set are there; one without a given folder is left out."""
    root, found = data_paths.videos, []
    datasets = [one for one in data_paths.datasets().values() if not one.embedded]
    for data in datasets:
        with suppress(MissingData):
            found.append(_videos(data.name, data_paths.video_folder(data), root))
    if not found:
        remedy = "give --data-root or $TCCLIP_DATA_ROOT, a folder with one folder a data set"
        return [Finding("videos", None, "no folder given: only the demo can run", remedy)]
    if root is not None and all(one.ok is None for one in found):
        remedy = (
            "correct --data-root or $TCCLIP_DATA_ROOT; the folders or links in it are named "
            + ", ".join(one.name for one in datasets)
        )
        return [Finding("videos", False, f"{root} has no data set's folder", remedy)]
    return found


def _videos(data: str, folder: Path, root: Path | None) -> Finding:
    name, remedy = f"videos of {data}", "mount the disk, put the videos there or correct the folder"
    if not folder.is_dir():
        # Not everyone needs every data set; a folder that is configured has to be there.
        ok = None if folder.parent == root else False
        return Finding(name, ok, f"{folder} is not there", remedy)
    if not any(folder.iterdir()):
        return Finding(name, False, f"{folder} is empty", remedy)
    return Finding(name, True, f"{folder}; each file: tcclip data check --datasets {data}")


def own_lists(data_paths: DataPaths) -> list[Finding]:
    """What is wrong or odd in the lists of each of the user's own data sets."""
    return [_own_lists(one.dataset, data_paths) for one in data_paths.own]


def _own_lists(data: Dataset, data_paths: DataPaths) -> Finding:
    found, name = check(data, data_paths), f"lists of {data.name}"
    problems = [f"{one.split}: {one.problem}" for one in found.splits if one.problem]
    problems += [f"{found.missing} of {found.listed} videos are not there"] * bool(found.missing)
    if problems:
        remedy = f"tcclip data check --datasets {data.name} names each"
        return Finding(name, False, "; ".join(problems), remedy)
    detail = f"{found.listed} videos in {len(found.splits)} lists"
    return Finding(name, None if found.warnings else True, "; ".join([detail, *found.warnings]))


# ---- Services ----


def object_store(place: Location) -> Finding:
    """Whether runs can be kept in `place`; StorageError if not."""
    check_reachable(place)
    check_exclusive(place)
    return Finding("output folder", True, f"{place}: an object was created there and removed")


#: Asks for an experiment, so that a server's database has to answer too.
MLFLOW = """
import os, sys
os.environ |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
import mlflow
try:
    mlflow.MlflowClient(sys.stdin.read()).search_experiments(max_results=1)
except Exception as error:
    raise SystemExit(" ".join(str(error).split()))
print("null")
"""


def mlflow(uri: str, out: str) -> Finding:
    """Whether MLflow's tracking store at `uri`, for the runs in `out`, can be used.

    An empty PostgreSQL database gets MLflow's tables, as it would from the first sweep.
    """
    path = sqlite_file(uri)
    if path is not None:
        return _database(path.absolute(), out)
    try:
        run_python(MLFLOW, uri)
    except ProcessFailed as error:
        remedy = (
            "start the server (for 'Invalid Host header' with --allowed-hosts), or correct "
            "$MLFLOW_TRACKING_URI or $MLFLOW_TRACKING_USERNAME and _PASSWORD; a password in the "
            "address needs %2F %40 %3A for / @ :. Sweeps run without MLflow, and "
            f"{sync_command(out)} copies them later"
        )
        return Finding("MLflow", False, redact_url(f"{uri}: {error}"), remedy)
    return Finding("MLflow", True, f"{redact_url(uri)} and its database answer")


def _database(path: Path, out: str) -> Finding:
    if not path.exists():
        return folder("MLflow", path.parent, "$MLFLOW_TRACKING_URI")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            (runs,) = database.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        remedy = f"move {path} away and make it again from the runs: {sync_command(out)}"
        return Finding("MLflow", False, f"{path} is no database of MLflow's: {error}", remedy)
    return Finding("MLflow", True, f"{path} holds {runs} runs")


def ray(address: str | None) -> Finding:
    """Where a sweep with this --address would compute; UserError if it could not."""
    place = find_ray(address).tried()
    return Finding("Ray", None if place.note else True, str(place).removeprefix("Ray: "))


def job_end() -> list[Finding]:
    """When a sweep in this Slurm job would pause; nothing outside of one."""
    ignored: list[str] = []
    limit = time_limit(None, ignored.append, remote=False)
    if limit is not None:
        return [Finding("Slurm job", True, f"a sweep {limit}")]
    remedy = "let Slurm set it, or give sweeps a --time-limit"
    return [Finding("Slurm job", None, one, remedy) for one in ignored]
