"""`tcclip doctor`: is this machine fit for sweeps? Each check is ok or says what to do.

Checks run side by side, each within a time limit, and none can stop another. What may crash or
hang a process (torch, the decoders) is tried in a process of its own. Ray and MLflow are not
imported: that they can be reached is asked of their ports.
"""

from __future__ import annotations

import base64
import fcntl
import importlib.metadata
import json
import os
import platform
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.markup import escape

from experiments.display import print_rows
from experiments.errors import MissingData
from experiments.fetch import verify
from experiments.provenance import packages
from experiments.roots import Roots
from protocols.datasets import Dataset
from tcclip.config import ModelConfig

#: Limits on one check, on a process one of them starts, and on one answer over the network.
CHECK_SECONDS, PROBE_SECONDS, NETWORK_SECONDS = 90.0, 80.0, 5.0
GIB = 2**30
#: Below this much shared memory loaders, NCCL and Ray's object store fail (Docker gives 64 MiB).
SHARED_MEMORY = GIB
#: About what one full-size run keeps while it trains, and some.
FREE_DISK = 5 * GIB
#: 8 frames of 64 x 48 in H.264, each brighter than the one before.
VIDEO, FRAMES = Path(__file__).with_name("doctor.mp4"), 8
NAMED = 3
DISTRIBUTION = "tcclip-sweeps"


@dataclass(frozen=True)
class Finding:
    """One check's outcome. `ok`: None where it does not apply, or is worth knowing only."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


Check = Callable[[], Sequence[Finding]]


class _Broken(Exception):
    """What a probe's process died of."""


def diagnose(roots: Roots, out: Path, uri: str | None, address: str | None) -> list[Finding]:
    """Every check of this machine, in a fixed order; takes `CHECK_SECONDS` at most.

    `out`: where runs will be kept. `uri`: MLflow's tracking URI, None for a database in `out`.
    `address`: the Ray cluster to be used, None for one that a sweep starts itself.
    """
    return _run_all(
        {
            "Python": _python,
            "packages": _packages,
            "GPU": _gpus,
            "shared memory": _shared_memory,
            "output folder": lambda: [_folder("output folder", out, "--out", FREE_DISK)],
            "cache folder": lambda: [_folder("cache folder", roots.cache, "$TCCLIP_CACHE", 0)],
            "decord": _decord,
            "PyAV": _pyav,
            "CLIP weights": _weights,
            "annotations": lambda: [_annotations(roots)],
            "videos": lambda: _videos(roots),
            "MLflow": lambda: [_mlflow(uri, out)],
            "Ray": lambda: [_ray(address)],
        },
        CHECK_SECONDS,
    )


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything is broken; what does not apply is not."""
    return 1 if any(one.ok is False for one in findings) else 0


def show(findings: Sequence[Finding], format: str) -> None:
    """Print `findings` for a terminal, as markdown or as JSON."""
    if format == "json":
        print(json.dumps([asdict(one) for one in findings], indent=1))
    elif format == "md":
        rows = [(one.name, _word(one), one.detail, one.remedy) for one in findings]
        cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
        print_rows("", ("check", "", "found", "what to do"), cells, format)
    else:
        rows3 = [[escape(cell) for cell in (one.name, _word(one), one.detail)] for one in findings]
        print_rows("this machine", ("check", "", "found"), rows3, format, left=3)
        for one in findings:
            if one.remedy:
                print(f"{one.name}: {one.remedy}")


def _word(finding: Finding) -> str:
    return {True: "ok", False: "BROKEN", None: "note"}[finding.ok]


# ---- Running checks and probes ----


def _run_all(checks: Mapping[str, Check], seconds: float) -> list[Finding]:
    """The findings of all checks; one that raises or takes too long is a finding itself."""
    found: dict[str, Sequence[Finding]] = {}

    def run(name: str, check: Check) -> None:
        try:
            found[name] = check()
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong with a machine, the other checks are still wanted.
            text = f"{type(error).__name__}: {error}"
            found[name] = [Finding(name, False, _line(text), "repair what the message names")]

    threads = {
        name: threading.Thread(target=run, args=(name, check), daemon=True)
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {seconds:g} s"
    hint = "a disk or server it needs hangs; see whether other programs can use it"
    return [one for name in checks for one in found.get(name, [Finding(name, False, late, hint)])]


def _probe(code: str, *arguments: str) -> Any:
    """What `code` prints as JSON in a process of its own. _Broken with what it died of."""
    # -P: the folder the user stands in must not be on the import path.
    command = [sys.executable, "-P", "-c", code, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _Broken(f"no answer within {PROBE_SECONDS:g} s, stopped") from error
    if done.returncode < 0:
        raise _Broken(f"the process died of {signal.Signals(-done.returncode).name}")
    if done.returncode > 0:
        raise _Broken(_line((done.stderr.strip().splitlines() or ["it ended without a word"])[-1]))
    return json.loads(done.stdout.splitlines()[-1])


def _line(text: str, longest: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


# ---- Python and packages ----


def _python() -> list[Finding]:
    detail = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    try:
        wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        return [Finding("Python", True, detail)]
    if SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        return [Finding("Python", True, detail)]
    return [Finding("Python", False, detail, f"make the environment with Python {wanted}")]


def _packages() -> list[Finding]:
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

_TORCH = """
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


def _gpus() -> list[Finding]:
    driver = _driver()
    try:
        found = _probe(_TORCH)
    except _Broken as error:
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


def _shared_memory(folder: Path = Path("/dev/shm")) -> list[Finding]:
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


def _folder(name: str, folder: Path, option: str, wanted: int) -> Finding:
    """Whether files can be made, synced, renamed and locked in `folder`, or where it will be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    choose = f"make {place} a folder you may write to, or choose another with {option}"
    try:
        state = os.statvfs(place)
        _try_files(place)
    except OSError as error:
        return Finding(name, False, f"{folder} cannot be used: {error.strerror or error}", choose)
    free = state.f_bavail * state.f_frsize
    detail = f"{folder}{'' if place == folder else ' (will be made)'}, {free / GIB:.1f} GiB free"
    if free < wanted:
        room = f"free at least {wanted / GIB:.0f} GiB there, or choose another with {option}"
        return Finding(name, False, detail, room)
    return Finding(name, True, detail)


def _try_files(place: Path) -> None:
    """What the ledger does to files; OSError where the file system cannot."""
    with tempfile.TemporaryDirectory(dir=place, prefix=".tcclip-doctor-") as scratch:
        written = Path(scratch) / "written"
        with written.open("wb") as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
        written.replace(written.with_name("renamed"))
        descriptor = os.open(scratch, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)


# ---- Decoders ----

_DECORD = """
import decord, json, sys
decord.logging.set_level(decord.logging.QUIET)
reader = decord.VideoReader(sys.argv[1], num_threads=1)
print(json.dumps([float(reader[i].asnumpy().mean()) for i in range(len(reader))]))
"""
_PYAV = """
import av, json, sys
with av.open(sys.argv[1]) as container:
    frames = [float(f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
print(json.dumps(frames))
"""


def _decord() -> list[Finding]:
    made_for = sys.platform == "linux" and platform.machine() == "x86_64"
    if not made_for:
        return [Finding("decord", None, "not made for this platform: PyAV reads every video")]
    return [_decoder("decord", _DECORD, "pip install decord==0.6.0")]


def _pyav() -> list[Finding]:
    return [_decoder("PyAV", _PYAV, "pip install --force-reinstall av")]


def _decoder(name: str, code: str, remedy: str) -> Finding:
    try:
        brightness = _probe(code, str(VIDEO))
    except _Broken as error:
        return Finding(name, False, f"cannot read a small H.264 video: {error}", remedy)
    rising = all(a < b for a, b in pairwise(brightness))
    if len(brightness) != FRAMES or not rising:
        return Finding(name, False, f"reads wrong frames from {VIDEO.name}: {brightness}", remedy)
    return Finding(name, True, f"read {FRAMES} frames of a small H.264 video")


# ---- Weights and data ----

_WEIGHTS = """
import json, sys
from huggingface_hub import try_to_load_from_cache
from open_clip import get_pretrained_cfg
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
repository = get_pretrained_cfg(sys.argv[1], "openai")["hf_hub"].rstrip("/")
files = [try_to_load_from_cache(repository, n) for n in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)]
print(json.dumps([repository, *(f for f in files if isinstance(f, str))]))
"""


def _weights() -> list[Finding]:
    """Whether open_clip would find OpenAI's checkpoint without a network."""
    name, backbone = "CLIP weights", ModelConfig().backbone
    try:
        repository, *files = _probe(_WEIGHTS, backbone)
    except _Broken as error:
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


def _annotations(roots: Roots) -> Finding:
    name, folder = "annotations", roots.annotations
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


def _videos(roots: Roots) -> list[Finding]:
    """The video folder of every data set that has one."""
    root = roots.videos
    if root is not None and not root.is_dir():
        correct = "correct --data-root or $TCCLIP_DATA_ROOT"
        return [Finding("videos", False, f"{root} is not a folder", correct)]
    published = [one for one in roots.datasets().values() if not one.embedded]
    found = [finding for finding in (_video_folder(roots, one) for one in published) if finding]
    if not found:
        give = "give --data-root or $TCCLIP_DATA_ROOT, a folder with one folder a data set"
        return [Finding("videos", None, "no folder given: only the demo can run", give)]
    if root is not None and all(one.ok is None for one in found):
        names = ", ".join(one.name for one in published)
        link = f"{root} must hold a folder or link called {names}"
        return [Finding("videos", False, f"{root} has no data set's folder", link)]
    return found


def _video_folder(roots: Roots, data: Dataset) -> Finding | None:
    """None if nobody said where it is."""
    name = f"videos of {data.name}"
    try:
        folder = roots.video_folder(data)
    except MissingData:
        return None
    if not folder.is_dir():
        asked = data.name in roots.folders or any(own.dataset is data for own in roots.own)
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


# ---- MLflow ----


def _mlflow(uri: str | None, out: Path) -> Finding:
    if uri is None:
        return _database(out / "mlflow.db")
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return _server(uri, parts)
    if parts.scheme.startswith("sqlite"):
        return _database(Path(urllib.parse.unquote(parts.path.removeprefix("/"))))
    if parts.scheme.startswith("postgresql"):
        return _port("MLflow", parts.hostname or "localhost", parts.port or 5432, "PostgreSQL")
    if parts.scheme in ("", "file"):
        use = "set $MLFLOW_TRACKING_URI to sqlite:////ABSOLUTE/PATH.db or to a server's http://"
        return Finding("MLflow", False, f"{uri}: MLflow no longer writes to plain folders", use)
    return Finding("MLflow", None, f"a store of kind {parts.scheme!r} is not checked")


def _database(path: Path) -> Finding:
    again = f"move {path} away and rebuild it from the runs: tcclip ui --sync"
    if not path.exists():
        return Finding("MLflow", True, f"{path} will be made by the first sweep")
    try:
        connection = sqlite3.connect(
            f"file:{urllib.parse.quote(str(path))}?mode=ro", uri=True, timeout=NETWORK_SECONDS
        )
        try:
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding("MLflow", False, f"{path} cannot be read: {error}", again)
    if not os.access(path, os.W_OK):
        return Finding("MLflow", False, f"{path} may not be written", f"chmod u+w {path}")
    return Finding("MLflow", True, f"{path} holds {runs} runs")


def _server(uri: str, parts: urllib.parse.SplitResult) -> Finding:
    """Ask the server for an experiment: its database must answer too."""
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    ask = f"{shown.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    start = (
        f"start the server at {shown}, or correct $MLFLOW_TRACKING_URI; sweeps run without it, "
        "and tcclip ui --sync copies them later"
    )
    try:
        request = urllib.request.Request(ask, headers=_credentials(parts))
        with urllib.request.urlopen(request, timeout=NETWORK_SECONDS) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            body = _line(error.read(500).decode(errors="replace"), 120)
        detail = f"{shown} answers {error.code} {error.reason}: {body}"
        return Finding("MLflow", False, detail, _refused(error.code, body))
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        return Finding("MLflow", False, f"{shown} cannot be reached: {cause}", start)
    return Finding("MLflow", True, f"{shown} and its database answer")


def _credentials(parts: urllib.parse.SplitResult) -> dict[str, str]:
    """The header MLflow's client would send, from the environment or the URI."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or parts.username
    if user is not None:
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or parts.password or ""
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refused(code: int, body: str) -> str:
    if "Invalid Host header" in body:
        return "start the server with --allowed-hosts and the name it is reached by"
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "set $MLFLOW_TRACKING_USERNAME and _PASSWORD, or $MLFLOW_TRACKING_TOKEN"
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "see the server's log: its database may be down"
    return "is this an MLflow server? Correct $MLFLOW_TRACKING_URI"


# ---- Ray ----


def _ray(address: str | None) -> Finding:
    if address is None or address == "local":
        return Finding("Ray", None, "no --address given: a sweep starts Ray on this machine")
    known = _ray_cluster() if address == "auto" else address
    if known is None:
        start = "start one with ray start --head, or give --address HOST:6379"
        return Finding("Ray", False, "--address auto, and no cluster runs on this machine", start)
    parts = urllib.parse.urlsplit(known if "://" in known else f"//{known}")
    try:
        host, port = parts.hostname, parts.port or (10001 if parts.scheme == "ray" else 6379)
    except ValueError:
        host, port = None, 0
    if not host:
        return Finding("Ray", False, f"{known!r} is no address", "give --address HOST:6379 or auto")
    finding = _port("Ray", host, port, "Ray", hello=True)
    if finding.ok and not _has_token():
        detail = f"{finding.detail}, but this user has no token for it"
        give = "set RAY_AUTH_TOKEN to the cluster's token (RAY_AUTH_MODE=disabled: it has none)"
        return Finding("Ray", None, detail, give)
    return finding


def _ray_cluster() -> str | None:
    """Where `--address auto` leads: $RAY_ADDRESS, else the cluster this machine is a node of."""
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    try:
        return (folder / "ray" / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def _has_token() -> bool:
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(path or Path.home() / ".ray" / "auth_token").is_file()


#: HTTP/2's opening with empty settings; a gRPC server answers with a settings frame (type 4).
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + bytes(5)
_SETTINGS = 4


def _port(name: str, host: str, port: int, what: str, hello: bool = False) -> Finding:
    """Whether something listens at `host`:`port`; with `hello`, whether it speaks gRPC."""
    place = f"{host}:{port}"
    start = f"start {what} there, or correct the address; a firewall may be in between"
    try:
        with socket.create_connection((host, port), timeout=NETWORK_SECONDS) as connection:
            if hello:
                connection.sendall(_HELLO)
                answer = connection.recv(9)
                if len(answer) < 4 or answer[3] != _SETTINGS:
                    other = f"what listens at {place} is not {what}"
                    return Finding(name, False, other, "correct the address")
    except OSError as error:
        return Finding(name, False, f"{place} cannot be reached: {error}", start)
    return Finding(name, True, f"{place} answers")
