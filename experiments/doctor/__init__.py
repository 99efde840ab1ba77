"""`tcclip doctor`: is this machine fit for sweeps? Each check is ok or says what to do.

In: the data folders, the output folder and the Ray cluster's address. Out: findings, shown as a
table, markdown or JSON, and an exit code. Only the command line calls it.

Read `diagnose` below, which lists the checks of `checks`, then `report`, which runs and shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.datasets.paths import DataPaths, cache_folder
from experiments.doctor import checks
from experiments.doctor.report import Check, Finding, exit_code, run_checks, show
from experiments.errors import UserError
from experiments.tracking import default_uri
from results.reading.location import location

__all__ = ["Finding", "diagnose", "exit_code", "show"]


def diagnose(find: Callable[[], DataPaths], out: str, address: str | None) -> list[Finding]:
    """Run every check of this machine; takes at most 90 seconds.

    `find` returns the data folders, or raises UserError for a config file that cannot be used.
    `out`: where runs are kept, as given with `--out`. `address`: the Ray cluster's address; None if
    a sweep starts Ray itself.
    """
    findings = []
    try:
        paths = find()
    except UserError as error:
        findings.append(Finding("configuration", False, str(error), "correct that file or option"))
        paths = DataPaths(cache=cache_folder())
    listed: dict[str, Check] = {
        "packages": checks.required_packages,
        "GPU": checks.gpu,
        "shared memory": checks.shared_memory,
        "loaders": checks.loaders,
        "cache folder": lambda: checks.folder("cache folder", paths.cache, "$TCCLIP_CACHE"),
        "decoded frames": lambda: checks.frame_cache(paths),
        "decord": checks.decord,
        "PyAV": lambda: checks.decoder("PyAV", checks.PYAV, "pip install --force-reinstall av"),
        "CLIP weights": checks.clip_weights,
        "annotations": lambda: checks.annotation_lists(paths),
        "videos": lambda: checks.video_folders(paths),
        "own data": lambda: checks.own_lists(paths),
        "Ray": lambda: checks.ray(address),
        "Slurm job": checks.job_end,
    }
    try:
        place = location(out)
    except UserError as error:
        findings.append(Finding.from_error("output folder", error))
    else:
        listed["output folder"] = lambda: (
            checks.folder("output folder", place, "--out", for_runs=True)
            if isinstance(place, Path)
            else checks.object_store(place)
        )
        listed["MLflow"] = lambda: checks.mlflow(default_uri(place), out)
    return findings + run_checks(listed)
