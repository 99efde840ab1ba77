"""What runs read: decoders, CLIP's weights, annotation lists, videos."""

from __future__ import annotations

import os
import platform
import sys
from itertools import pairwise
from pathlib import Path

from experiments.datasets.fetch import verify
from experiments.datasets.paths import DataPaths
from experiments.doctor.probes import Broken, probe
from experiments.doctor.report import Finding
from experiments.errors import MissingData
from protocols.datasets import Dataset
from tcclip.config import ModelConfig

#: 8 frames of 64 x 48 in H.264, each brighter than the one before.
VIDEO, FRAMES = Path(__file__).with_name("doctor.mp4"), 8
NAMED = 3

# ---- Decoders ----

DECORD = """
import decord, json, sys
decord.logging.set_level(decord.logging.QUIET)
reader = decord.VideoReader(sys.argv[1], num_threads=1)
print(json.dumps([float(reader[i].asnumpy().mean()) for i in range(len(reader))]))
"""
PYAV = """
import av, json, sys
with av.open(sys.argv[1]) as container:
    frames = [float(f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
print(json.dumps(frames))
"""


def decord() -> list[Finding]:
    """Whether decord reads a video as it should."""
    made_for = sys.platform == "linux" and platform.machine() == "x86_64"
    if not made_for:
        return [Finding("decord", None, "not made for this platform: PyAV reads every video")]
    return [decoder("decord", DECORD, "pip install decord==0.6.0")]


def pyav() -> list[Finding]:
    """Whether PyAV does."""
    return [decoder("PyAV", PYAV, "pip install --force-reinstall av")]


def decoder(name: str, code: str, remedy: str) -> Finding:
    """Whether `code`, in a process of its own, reads the small video's frames in their order."""
    try:
        brightness = probe(code, str(VIDEO))
    except Broken as error:
        return Finding(name, False, f"cannot read a small H.264 video: {error}", remedy)
    rising = all(a < b for a, b in pairwise(brightness))
    if len(brightness) != FRAMES or not rising:
        return Finding(name, False, f"reads wrong frames from {VIDEO.name}: {brightness}", remedy)
    return Finding(name, True, f"read {FRAMES} frames of a small H.264 video")


# ---- Weights and data ----

WEIGHTS = """
import json, sys
from huggingface_hub import try_to_load_from_cache
from open_clip import get_pretrained_cfg
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
repository = get_pretrained_cfg(sys.argv[1], "openai")["hf_hub"].rstrip("/")
files = [try_to_load_from_cache(repository, n) for n in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)]
print(json.dumps([repository, *(f for f in files if isinstance(f, str))]))
"""


def weights() -> list[Finding]:
    """Whether open_clip would find OpenAI's checkpoint without a network."""
    name, backbone = "CLIP weights", ModelConfig().backbone
    try:
        repository, *files = probe(WEIGHTS, backbone)
    except Broken as error:
        anew = "pip install --force-reinstall open-clip-torch huggingface-hub"
        return [Finding(name, False, f"open_clip cannot be asked: {error}", anew)]
    if files:
        return [Finding(name, True, f"OpenAI's {backbone} is in the cache: {files[0]}")]
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    detail = f"OpenAI's {backbone} is not in the cache"
    once = (
        f"once, with a network: hf download {repository}; or copy a filled cache here and set "
        "$HF_HOME to it"
    )
    if offline:
        return [Finding(name, False, f"{detail}, and HF_HUB_OFFLINE forbids to get it", once)]
    return [
        Finding(name, None, f"{detail}: the first run downloads it (the demo needs none)", once)
    ]


def annotation_lists(data_paths: DataPaths) -> Finding:
    """Whether the published lists are there and as published."""
    name, folder = "annotations", data_paths.annotations
    if folder is None:
        give = "tcclip data fetch, then give the folder with --annotations or $TCCLIP_ANNOTATIONS"
        return Finding(name, None, "no folder given: only the demo and own data can run", give)
    if not folder.is_dir():
        give = "correct --annotations or $TCCLIP_ANNOTATIONS"
        return Finding(name, False, f"{folder} is not a folder", give)
    wrong = [fault for fault in verify(folder) if fault.known]
    if not wrong:
        return Finding(name, True, f"{folder} is as published")
    named = ", ".join(f"{one.path} ({one.kind})" for one in wrong[:NAMED])
    more = ", ..." if len(wrong) > NAMED else ""
    detail = f"{len(wrong)} files of {folder} are missing or changed: {named}{more}"
    return Finding(name, False, detail, f"tcclip data fetch --to {folder}")


def video_folders(data_paths: DataPaths) -> list[Finding]:
    """The video folder of every data set that has one."""
    root = data_paths.videos
    if root is not None and not root.is_dir():
        correct = "correct --data-root or $TCCLIP_DATA_ROOT"
        return [Finding("videos", False, f"{root} is not a folder", correct)]
    published = [one for one in data_paths.datasets().values() if not one.embedded]
    found = [
        finding for finding in (_video_folder(data_paths, one) for one in published) if finding
    ]
    if not found:
        give = "give --data-root or $TCCLIP_DATA_ROOT, a folder with one folder a data set"
        return [Finding("videos", None, "no folder given: only the demo can run", give)]
    if root is not None and all(one.ok is None for one in found):
        names = ", ".join(one.name for one in published)
        link = f"{root} must hold a folder or link called {names}"
        return [Finding("videos", False, f"{root} has no data set's folder", link)]
    return found


def _video_folder(data_paths: DataPaths, data: Dataset) -> Finding | None:
    """None if nobody said where it is."""
    name = f"videos of {data.name}"
    try:
        folder = data_paths.video_folder(data)
    except MissingData:
        return None
    if not folder.is_dir():
        asked = data.name in data_paths.folders or any(
            own.dataset is data for own in data_paths.own
        )
        remedy = f"put the videos there, or correct the place of {data.name} in the config file"
        return Finding(name, False if asked else None, f"{folder} is not there", remedy)
    try:
        with os.scandir(folder) as entries:
            empty = next(entries, None) is None
    except PermissionError:
        return Finding(name, False, f"{folder} may not be read", "give this user the right to")
    if empty:
        return Finding(name, False, f"{folder} is empty", "mount the disk, or put the videos there")
    return Finding(name, True, f"{folder}; each file: tcclip data check --datasets {data.name}")
