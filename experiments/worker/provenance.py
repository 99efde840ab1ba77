"""What a run was computed with: code, packages, machine."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

PACKAGES = (
    "tcclip-sweeps", "torch", "torchvision", "open-clip-torch", "decord", "av", "ray", "mlflow",
    "numpy", "pandas",
)  # fmt: skip
#: Environment variable of the container image, which has no checkout: the commit of its code.
COMMIT = "TCCLIP_COMMIT"


@cache
def git_state() -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout this code runs from.

    Without a checkout: the commit that `COMMIT` names, if any, and None.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return os.environ.get(COMMIT) or None, None
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        return commit, bool(_git(root, "status", "--porcelain").strip())
    except (OSError, subprocess.CalledProcessError):
        # No git, or a checkout of another owner.
        return None, None


def _git(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True, text=True, check=True, env=environment,
    ).stdout  # fmt: skip


@cache
def packages() -> dict[str, str]:
    """Versions of the packages that can change a number; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
