"""The decision: --address, RAY_ADDRESS, a cluster on this machine, else Ray started for the sweep.

Whatever Ray would read by itself (`RAY_ADDRESS`, a cluster that somebody started) is read here, so
that it is known and said before Ray is imported.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from experiments.cluster.joining import Cluster, check_greeting, join, parse_address
from experiments.errors import UserError

_PREFIX, _ROOT = "tcclip-", 0
#: The system's limit on the path of a Unix socket, and what Ray and `make_folder` append to a base:
#: `/tcclip-` and 8 letters, `/ray`, `/session_DATE_TIME_MICROSECONDS_PID`, `/sockets/plasma_store`.
_SOCKET_BYTES = 107
_APPENDED = 16 + 4 + 43 + 21
#: Where Ray's files may be, if not where the environment says.
_BASES = ("/tmp", "/var/tmp", "/dev/shm")
#: Of Ray's own: they would make it another Ray than a sweep's own, or part of a job elsewhere.
_NOT_FOR_OWN = (
    "RAY_ADDRESS", "RAY_REDIS_ADDRESS", "RAY_GCS_SERVER_PORT", "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_AUTH_TOKEN_PATH",
)  # fmt: skip


@dataclass(frozen=True)
class RayPlace:
    """Where a sweep computes its runs.

    `address`: the cluster to join; None: Ray is started on this machine. `source`: what says so.
    `base`: the folder in which Ray is to keep its files, if it is started. `note`: what else the
    user should know. `cluster`: what joining it has shown, once that was tried.
    """

    address: str | None
    source: str
    base: Path | None = None
    note: str = ""
    cluster: Cluster | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        note = f"; {self.note}" if self.note else ""
        if self.address is None:
            return f"Ray: one on this machine for the sweep alone, files in {self.base}{note}"
        size = f": {self.cluster}" if self.cluster else ""
        if self.source == _HERE:
            return f"Ray: {_HERE} {self.address}{size} (--address local: one for the sweep alone)"
        return f"Ray: the cluster at {self.address} ({self.source}){size}"

    def prepare(self) -> None:
        """Set the environment for Ray, which reads it when it is imported."""
        if self.address is None:
            for name in _NOT_FOR_OWN:
                os.environ.pop(name, None)
        os.environ.update(self.environment)

    def make_folder(self) -> Path:
        """A new folder for a Ray that is started; nobody else may enter it.

        Ray opens the folders that it makes itself to every user of the machine.
        """
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self.base))

    def tried(self) -> RayPlace:
        """The place once it is known to be good; joining a cluster is tried.

        A cluster that nobody asked for and that cannot be joined is left alone. UserError else.
        """
        if self.address is None:
            return self
        try:
            cluster = join(self.address, self.source)
        except UserError as error:
            if self.source != _HERE:
                raise
            return _own(str(error))
        # In the wrong mode Ray joins, and its runs fail.
        mode = {"RAY_AUTH_MODE": cluster.auth_mode}
        return replace(self, cluster=cluster, environment=mode)


#: The source of a cluster that nobody named.
_HERE = "the cluster on this machine,"


def find_ray(given: str | None) -> RayPlace:
    """Where Ray is, as far as files and environment say; `given`: the argument of --address.

    UserError for an address that is none, or if Ray cannot be started here.
    """
    asked, source = given, "--address"
    if asked in (None, "auto") and (variable := os.environ.get("RAY_ADDRESS", "").strip()):
        asked, source = variable, "RAY_ADDRESS"
    if asked == "local":
        return _own()
    if asked not in (None, "auto"):
        parse_address(asked, source)
        return RayPlace(asked, source)
    address, why = _running_here()
    if address is None and asked == "auto":
        # Started with --temp-dir: Ray keeps its address there, where nobody would look.
        others = _raylets()
        if len(others) > 1:
            raise UserError(
                f"{source} auto: several Ray clusters run on this machine, {', '.join(others)}; "
                "name one of them with --address"
            )
        address = next(iter(others), None)
    if address is not None:
        return RayPlace(address, _HERE)
    if asked == "auto":
        raise UserError(
            f"{source} auto: this machine has no Ray cluster{why and f' ({why})'}; start one with "
            "ray start --head, or give --address HOST:6379"
        )
    return _own(why)


def _running_here() -> tuple[str | None, str]:
    """The address of this user's cluster on this machine; else why one that was found is not."""
    why = ""
    bases = [os.environ["RAY_TMPDIR"]] if os.environ.get("RAY_TMPDIR") else []
    for base in bases or [os.environ.get("TMPDIR") or "/tmp", "/tmp"]:
        path = Path(base) / "ray" / "ray_current_cluster"
        try:
            # Everybody can write into Ray's folder, and whoever joins a cluster runs its code.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
                status, address = os.fstat(file.fileno()), file.read(300).strip()
        except (OSError, UnicodeDecodeError):
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), _ROOT):
            why = f"the cluster that {path} names belongs to another user"
            continue
        try:
            check_greeting(*parse_address(address, str(path)))
        except (OSError, UserError):
            why = f"the cluster that {path} names, {address}, does not answer"
            continue
        return address, ""
    return None, why


def _raylets() -> list[str]:
    """The addresses of the clusters that Ray's processes of this user belong to, sweeps' apart."""
    found = set()
    for process in psutil.process_iter(["name", "uids", "cmdline"]):
        command, uids = " ".join(process.info["cmdline"] or []), process.info["uids"]
        if process.info["name"] == "raylet" and uids is not None and uids.real == os.geteuid():
            address = re.search(r"--gcs-address=(\S+)", command)
            if address is not None and f"/{_PREFIX}" not in command:
                found.add(address[1])
    return sorted(found)


def _own(note: str = "") -> RayPlace:
    """A Ray of the sweep's own: with a token, its ports on the loopback interface."""
    base, why = _base()
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # in no file: the home may be read-only
        # Ray's address becomes 127.0.0.1, and then it listens there alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    if sys.platform == "linux":  # a run's workers, too, talk to each other there alone
        environment |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    return RayPlace(
        None, "", base, "; ".join(one for one in (why, note) if one), environment=environment
    )


def _base() -> tuple[Path, str]:
    """Where Ray's folder can be made, and why not where the environment says."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    wanted = [os.environ[name]] if name else []
    problems = []
    for base in (os.path.abspath(one) for one in (*wanted, *_BASES)):  # noqa: PTH100
        if len(os.fsencode(base)) + _APPENDED > _SOCKET_BYTES:
            problems.append(f"{base} is too long for Ray's sockets")
            continue
        try:
            Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base)).rmdir()
        except OSError as error:
            problems.append(f"{base} cannot be used: {error.strerror}")
            continue
        return Path(base), f"{name}={problems[0]}" if wanted and problems else ""
    raise UserError(
        f"Ray has no place for its files: {'; '.join(problems)}; set RAY_TMPDIR to a folder you "
        f"may write to, with a path of at most {_SOCKET_BYTES - _APPENDED} bytes"
    )
