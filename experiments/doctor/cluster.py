"""Whether a Ray cluster can be reached. Ray itself is not imported."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.doctor.report import Finding
from experiments.errors import UserError
from experiments.scheduler.executor import check_address


def ray(address: str | None) -> Finding:
    """Whether the cluster at `address` answers; "auto" is this machine's."""
    if address is None or address == "local":
        return Finding("Ray", None, "no --address given: a sweep starts Ray on this machine")
    try:
        check_address(address)
    except UserError as error:
        what, _, remedy = str(error).partition("; ")
        return Finding("Ray", False, what, remedy)
    if not _has_token():
        detail = f"--address {address} answers, but this user has no token for it"
        give = "set RAY_AUTH_TOKEN to the cluster's token (RAY_AUTH_MODE=disabled: it has none)"
        return Finding("Ray", None, detail, give)
    return Finding("Ray", True, f"--address {address} answers")


def _has_token() -> bool:
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(path or Path.home() / ".ray" / "auth_token").is_file()
