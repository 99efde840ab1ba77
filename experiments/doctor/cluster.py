"""Whether a Ray cluster can be reached: asked of its port, Ray is not imported."""

from __future__ import annotations

import os
import tempfile
import urllib.parse
from pathlib import Path

from experiments.doctor.finding import Finding
from experiments.doctor.ports import port_finding


def ray(address: str | None) -> Finding:
    """Whether the cluster at `address` answers; "auto" is this machine's."""
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
    finding = port_finding("Ray", host, port, "Ray", hello=True)
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
