"""Trying to join a Ray cluster, in seconds and without harm: what Ray itself would do.

Left alone, Ray waits up to minutes for a head that is not there, or ends the process that asks.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass

from experiments.errors import UserError
from experiments.processes import ProcessFailed, run_python

#: How long a head may take to accept a connection and to greet, and to let a driver in.
CONNECT_SECONDS, JOIN_SECONDS = 5.0, 30.0
#: Ray's own port of a head.
DEFAULT_PORT = 6379
#: What an HTTP/2 client says first: its preface and empty settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_JOIN = """
import json, os, sys
mode = os.environ.get("RAY_AUTH_MODE", "").lower()
os.environ["RAY_AUTH_MODE"] = needed = "disabled"
import ray
from ray._raylet import Config, GcsClient
address = sys.stdin.read()
try:
    GcsClient(address=address)
except ray.exceptions.RayError as error:
    if "InvalidAuthToken" not in str(error):
        raise
    needed = "token"
if mode not in ("", needed):
    sys.exit(f"RAY_AUTH_MODE={mode} is set, and the cluster is one of RAY_AUTH_MODE={needed}")
os.environ["RAY_AUTH_MODE"] = needed
Config.initialize("")
ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
alive = [one["Resources"] for one in ray.nodes() if one["Alive"]]
count = lambda kind: int(sum(one.get(kind, 0) for one in alive))
print(json.dumps([len(alive), count("CPU"), count("GPU"), needed]))
"""
_ENVIRONMENT = {
    # Ray asks a head so often, once a second, before it gives up.
    "RAY_gcs_server_port_wait_time_s": "3",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
#: What Ray says when it cannot join -> what that means, and what to do.
_MEANINGS = (
    (
        "RAY_AUTH_MODE=.* is set, and the cluster",
        "{said}; unset it here, or start the cluster with it too",
    ),
    (
        "Authentication token is missing or incorrect|no authentication token was found",
        "its token is missing here or another one; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to "
        "what the cluster was started with",
    ),
    (
        "[Vv]ersion mismatch",
        "it runs another version of Ray or Python ({said}); use the same environment on all nodes",
    ),
    (
        "No node info found",
        "this machine is no node of it; start the sweep on one of its nodes, or make this machine "
        "one with ray start --address={address}",
    ),
    (
        "Permission denied",
        "it belongs to another user of this machine (permission denied); start the sweep as "
        "that user, or with --address local for a Ray of its own",
    ),
    (
        "Timed out while waiting for GCS",
        "its head does not answer; start it again, or name another one",
    ),
)


@dataclass(frozen=True)
class Cluster:
    """What a cluster consists of, and whether it wants a token (RAY_AUTH_MODE)."""

    nodes: int
    cpus: int
    gpus: int
    auth_mode: str

    def __str__(self) -> str:
        counts = ((self.nodes, "node"), (self.cpus, "CPU"), (self.gpus, "GPU"))
        return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for n, name in counts)


def parse_address(address: str, source: str) -> tuple[str, int]:
    """Host and port of a head; `source` says where the address is from. UserError if none."""
    scheme, found, rest = address.partition("://")
    if found and scheme == "ray":
        raise UserError(
            f"{source} {address} is of a Ray client, which sweeps are not; start the sweep on a "
            "node of the cluster, with --address auto"
        )
    if found:
        raise UserError(
            f"{source} {address} is of a dashboard or none of Ray's; give the head's HOST:6379, or "
            "auto on a node of the cluster, or local to start Ray here"
        )
    host, port = None, 0
    with suppress(ValueError):
        parts = urllib.parse.urlsplit(f"//{address}")
        host, port = parts.hostname, DEFAULT_PORT if parts.port is None else parts.port
    if not host or not port or f"//{address}" != f"//{parts.netloc}" or parts.username is not None:
        raise UserError(f"{source} {address!r} is no address; give HOST:6379, auto or local")
    return host, port


def check_greeting(host: str, port: int) -> None:
    """OSError unless something that speaks gRPC, as a head does, listens there."""
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return  # it greets encrypted connections alone
        connection.sendall(_HELLO)
        greeting = connection.recv(9)
    # A frame of settings: length (3 bytes), type 4, flags, stream 0.
    if len(greeting) < 9 or struct.unpack(">xxxBxI", greeting) != (4, 0):
        raise ConnectionError("another program than Ray listens there")


def join(address: str, source: str) -> Cluster:
    """Join the cluster for a moment, as a sweep will; UserError with cause and remedy if not."""
    host, port = parse_address(address, source)
    named = f"{source} {address}"
    try:
        check_greeting(host, port)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{named}: {host}:{port} cannot be reached ({error}); start the cluster's head there, "
            "correct the address or leave it out; a firewall may be in between"
        ) from error
    try:
        found = run_python(
            _JOIN, f"{host}:{port}" if ":" not in host else f"[{host}]:{port}",
            seconds=JOIN_SECONDS, environment=_ENVIRONMENT,
        )  # fmt: skip
    except ProcessFailed as error:
        raise UserError(f"{named} cannot be joined: {_meaning(error, address)}") from error
    return Cluster(*found)


def _meaning(error: ProcessFailed, address: str) -> str:
    """What a failed attempt to join means, and what to do about it."""
    for pattern, meaning in _MEANINGS:
        line = next((one for one in error.output.splitlines() if re.search(pattern, one)), None)
        if line is not None:
            start = re.search(f"[^.:]*({pattern}).*", line)
            said = (start[0] if start else line).strip()[:200]
            return meaning.format(said=said, address=address)
    return f"{error}; the head's log (gcs_server.out) or ray status --address={address} may say why"
