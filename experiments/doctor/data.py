"""What runs read: decoders, CLIP weights, annotation lists, videos."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

from experiments.datasets.fetch import verify
from experiments.datasets.paths import DataPaths
from experiments.doctor.report import Finding, ProcessFailed, run_python
from experiments.errors import MissingData

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
    """Whether decord decodes a video correctly."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Finding("decord", None, "none for this platform: PyAV decodes every video")
    return decoder("decord", DECORD, "pip install decord==0.6.0")


def pyav() -> Finding:
    """Whether PyAV decodes a video correctly."""
    return decoder("PyAV", PYAV, "pip install --force-reinstall av")


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
