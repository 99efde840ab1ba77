"""What MLflow holds of a run, for tests of the mirror."""

import json
from pathlib import Path
from typing import Any

from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.tracking import Mirror, default_uri
from results.reading.run_folder import RunFolder
from tests.experiments.sweeping import small_specs

(OTHER,) = small_specs(train__lr=1e-4)


def mirror_of(out: Path) -> Mirror:
    return Mirror(Ledger(out), default_uri(out))


def copies(mirror: Mirror, spec: RunSpec) -> list[Any]:
    experiment = mirror.client.get_experiment_by_name("zero_shot (demo)")
    query = f"tags.`tcclip.run_id` = '{spec.run_id}'"
    return list(mirror.client.search_runs([experiment.experiment_id], query))


def steps(mirror: Mirror, run: Any, metric: str = "loss") -> list[int]:
    return [point.step for point in mirror.client.get_metric_history(run.info.run_id, metric)]


def has_all(mirror: Mirror, spec: RunSpec) -> None:
    """The finished run is there once, with every step once."""
    (run,) = copies(mirror, spec)
    assert run.info.status == "FINISHED"
    assert steps(mirror, run) == list(range(1, 13))
    assert steps(mirror, run, "epoch/loss") == [6, 12]
    files = {file.path for file in mirror.client.list_artifacts(run.info.run_id)}
    assert files == {"spec.json", "result.json", "run.log"}


def unfinish(out: Path, spec: RunSpec) -> bytes:
    """Remove the run's result, and return it."""
    path = Path(Ledger(out).folder(spec.run_id).result)
    data = path.read_bytes()
    path.unlink()
    return data


def begin(out: Path, spec: RunSpec = OTHER, steps: int = 5, at: float = 1000.0) -> RunFolder:
    """A run folder with the first steps of a run that began at the time `at`."""
    Ledger(out).add([spec])
    folder = Ledger(out).folder(spec.run_id)
    records = [{"kind": "start", "step": 0, "time": at}] + [
        {"kind": "step", "step": step, "time": at + step, "loss": 1.0, "lr": 0.1, "lr_fast": 0.1}
        for step in range(1, steps + 1)
    ]
    Path(folder.metrics).write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder
