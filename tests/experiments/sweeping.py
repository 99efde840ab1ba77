"""Small real sweeps for tests: the demo's runs with a few epochs, in this process."""

import json
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from experiments.datasets.paths import DataPaths
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.scheduler.executor import LocalExecutor
from experiments.scheduler.summary import Summary
from experiments.scheduler.sweep import compute_missing
from experiments.store.ledger import Ledger
from experiments.worker.job import Job
from tcclip.config import Execution

#: One epoch trains 6 steps; two make a best and a last one.
SETTINGS: dict[str, Any] = {"train.epochs": 2, "model.num_frames": 2, "model.context_tokens": 4}
EXECUTION = Execution(device="cpu", micro_batch=32, eval_batch=64, loader_workers=0)
#: For runs that are killed: a training state after every step.
EVERY_STEP = EXECUTION.model_copy(update={"checkpoint_minutes": 0})


def small_specs(models: tuple[str, ...] = ("tc_clip",), **settings: Any) -> list[RunSpec]:
    changed = SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
    return expand(Grid("zero_shot", demo=True, models=models, seeds=(0,), settings=changed))


def run_sweep(
    specs: list[RunSpec],
    out: Path,
    data: Path | DataPaths,
    execution: Execution = EXECUTION,
    files: Mapping[str, Path] | None = None,
) -> Summary:
    """Compute `specs` in this process. `data`: the cache folder, or where lists and videos are."""
    data_paths = data if isinstance(data, DataPaths) else DataPaths(cache=data)
    return compute_missing(
        Ledger(out),
        specs,
        execution,
        make_job=partial(Job, out=out, data_paths=data_paths, files=dict(files or {})),
        make_executor=LocalExecutor,
        display=nullcontext(),
        retries=0,
    )


def fork(function: Callable[..., object], *arguments: Any) -> BaseProcess:
    """A process that calls `function`; it has this one's modules and imports none."""
    process = get_context("fork").Process(target=function, args=arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: of this one's threads
        process.start()
    return process


def kill_once(process: BaseProcess, reached: Callable[[], bool]) -> None:
    """SIGKILL for a sweep that has got so far, in the middle of its work."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.is_alive(), "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()


def numbers(out: Path, spec: RunSpec) -> dict[str, Any]:
    """What of a result must be equal bit for bit: everything but when and how long."""
    data = json.loads(Ledger(out).folder(spec.run_id).result.read_text())
    provenance = data.pop("provenance")
    return data | {"digests": provenance["digests"]}


def break_list(cache: Path) -> None:
    """Give the first line of a list a label that is none; the file keeps its size."""
    path = cache / "moving_shapes/splits/unseen1.txt"
    first, _, rest = path.read_text().partition("\n")
    path.write_text(f"{first[:-1]}x\n{rest}")


def copy_cache(cache: Path, target: Path, decoded: bool = True) -> Path:
    """A cache whose lists and videos may be damaged; with the frames `decoded` so far."""
    shutil.copytree(cache / "moving_shapes", target / "moving_shapes")
    if decoded:
        frames = DataPaths(cache=cache).frames
        frames.mkdir(exist_ok=True)
        (target / frames.name).symlink_to(frames)
    return target
