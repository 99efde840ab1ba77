"""What MLflow holds of a run, for tests of the mirror."""

from pathlib import Path
from typing import Any

from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.tracking import Mirror


def children(mirror: Mirror, spec: RunSpec) -> list[Any]:
    experiment = mirror.client.get_experiment_by_name("zero_shot (demo)")
    query = f"tags.`tcclip.run_id` = '{spec.run_id}'"
    return list(mirror.client.search_runs([experiment.experiment_id], query))


def has_all(mirror: Mirror, spec: RunSpec) -> None:
    (run,) = children(mirror, spec)
    assert run.info.status == "FINISHED"
    for name, steps in (("loss", list(range(1, 25))), ("epoch/loss", [12, 24])):
        history = mirror.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == steps


def stopped_short(out: Path, spec: RunSpec) -> None:
    """The run as it was before its end: metrics, and no result."""
    Ledger(out).folder(spec.run_id).result.unlink()
