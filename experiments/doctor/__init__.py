"""`tcclip doctor`: is this machine fit for sweeps? Each check is ok or says what to do.

In: the data folders, the output folder, MLflow's URI and the Ray cluster's address. Out: findings,
shown as a table, markdown or JSON, and an exit code. Only the command line calls it.

Read `diagnose` below, which lists the checks, then `report`, which runs and shows them. The checks
are in `machine`, `data` and `services`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.datasets.paths import DataPaths, cache_folder
from experiments.doctor import data, machine, services
from experiments.doctor.report import Check, Finding, exit_code, run_checks, show
from experiments.errors import UserError
from results.reading.location import Location, location

__all__ = ["Finding", "diagnose", "exit_code", "show"]


def diagnose(
    find: Callable[[], DataPaths], out: str, uri: Callable[[Location], str], address: str | None
) -> list[Finding]:
    """Run every check of this machine; takes at most 90 seconds.

    `find` returns the data folders, or raises UserError for a config file that cannot be used.
    `out`: where runs are kept, as given with `--out`. `uri` returns MLflow's tracking URI for it.
    `address`: the Ray cluster's address; None if a sweep starts Ray itself.
    """
    findings = []
    try:
        paths = find()
    except UserError as error:
        findings.append(Finding("configuration", False, str(error), "correct that file or option"))
        paths = DataPaths(cache=cache_folder())
    checks: dict[str, Check] = {
        "packages": machine.required_packages,
        "GPU": machine.gpu,
        "shared memory": machine.shared_memory,
        "cache folder": lambda: machine.folder("cache folder", paths.cache, "$TCCLIP_CACHE"),
        "decord": data.decord,
        "PyAV": data.pyav,
        "CLIP weights": data.clip_weights,
        "annotations": lambda: data.annotation_lists(paths),
        "videos": lambda: data.video_folders(paths),
        "Ray": lambda: services.ray(address),
    }
    try:
        place = location(out)
    except UserError as error:
        findings.append(Finding.from_error("output folder", error))
    else:
        checks["output folder"] = lambda: (
            machine.folder("output folder", place, "--out", for_runs=True)
            if isinstance(place, Path)
            else services.object_store(place)
        )
        checks["MLflow"] = lambda: services.mlflow(uri(place), out)
    return findings + run_checks(checks)
