"""`tcclip doctor`: is this machine fit for sweeps? Each check is ok or says what to do.

Checks run side by side, each within a time limit, and none can stop another. What may crash or
hang a process (torch, the decoders) is tried in a process of its own. Ray and MLflow are not
imported: that they can be reached is asked of their ports.
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.datasets.paths import DataPaths, cache_folder
from experiments.doctor import cluster, data, folders, machine, tracker
from experiments.doctor.probes import CHECK_SECONDS, line, run_all
from experiments.doctor.report import Finding, exit_code, show
from experiments.errors import UserError
from results.reading.location import Location

__all__ = ["Finding", "diagnose", "exit_code", "show"]


def diagnose(
    find: Callable[[], DataPaths], out: str, uri: Callable[[Location], str], address: str | None
) -> list[Finding]:
    """Every check of this machine, in a fixed order; takes `CHECK_SECONDS` at most.

    `find`: gives the folders of the data; UserError if a config file cannot be used. `out`: where
    runs will be kept, as `--out` says. `uri`: MLflow's tracking URI for it.
    `address`: the Ray cluster to be used, None for one that a sweep starts itself.
    """
    try:
        data_paths, wrong = find(), []
    except UserError as error:
        data_paths = DataPaths(cache=cache_folder())
        wrong = [Finding("configuration", False, line(str(error)), "correct that file or option")]
    return wrong + run_all(
        {
            "Python": machine.python,
            "packages": machine.required_packages,
            "GPU": machine.gpus,
            "shared memory": machine.shared_memory,
            "output folder": lambda: [folders.output(out)],
            "cache folder": lambda: [folders.cache(data_paths.cache)],
            "decord": data.decord,
            "PyAV": data.pyav,
            "CLIP weights": data.weights,
            "annotations": lambda: [data.annotation_lists(data_paths)],
            "videos": lambda: data.video_folders(data_paths),
            "MLflow": lambda: [tracker.mlflow(uri, out)],
            "Ray": lambda: [cluster.ray(address)],
        },
        CHECK_SECONDS,
    )
