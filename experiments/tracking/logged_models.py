"""The selected weights of a finished run as one of MLflow's models: a reference, no copy."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

from experiments.grid.spec import RunSpec
from experiments.tracking.mlflow_runs import RUN_ID, models_of
from results.records import Result

#: Tag of a model: where its file of weights is.
WEIGHTS = "tcclip.weights"
#: How the names of the numbers begin by which runs are compared.
TEST = "test/"
#: MLflow's own limits.
DIGEST_LENGTH, NAME_LENGTH = 36, 250


def log_model(client: Any, mlflow_id: str, weights: str, result: Result) -> str:
    """The id of the model of an MLflow run, whose file is `weights`; made unless it is there."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(mlflow_id)
    found = models_of(client, run)
    model_id = next((one.model_id for one in found if one.tags.get(WEIGHTS) == weights), None)
    if model_id is None:
        predict = shlex.join(["tcclip", "predict", "VIDEO", "--checkpoint", weights])
        key, epoch = result.key, result.selection.best_epoch
        tags = {RUN_ID: result.run_id, WEIGHTS: weights, "mlflow.note.content": f"`{predict}`"}
        made = client.create_logged_model(
            run.info.experiment_id,
            name=re.sub(r"[/:.%\"']", "_", result.run_id),
            source_run_id=mlflow_id,
            tags=tags,
            params={"model": key.model, "epoch": str(epoch), "parameters": str(result.parameters)},
            model_type=key.model,
        )
        model_id = made.model_id
    client.finalize_logged_model(model_id, "READY")
    outputs = [] if run.outputs is None else run.outputs.model_outputs
    if model_id not in [one.model_id for one in outputs]:  # twice would be refused
        client.log_outputs(mlflow_id, [LoggedModelOutput(model_id, 0)])
    return str(model_id)


def table_metrics(folder: Path) -> list[Any]:
    """Means and stds of our rows in the JSON report of `folder`, as MLflow's metrics."""
    from mlflow.entities import Metric

    now, metrics = int(time.time() * 1000), []
    for file in folder.glob("*.json"):
        for row in json.loads(file.read_text())["rows"]:
            method = f"{row['title']} {row['weights']} {row['checkpoint']}"
            for cell in row["cells"]:
                paper = (cell["ours"] or {}).get("paper") or {}
                for statistic in ("mean", "std"):
                    # MLflow allows few characters.
                    place = " ".join(filter(None, (cell["dataset"], cell["part"])))
                    name = re.sub(r"[^\w\-. /]", "_", f"table/{method}/{place} {statistic}")
                    if paper.get(statistic) is not None:
                        metrics.append(Metric(name[:NAME_LENGTH], paper[statistic], now, 0))
    return metrics


def final_metrics(spec: RunSpec, result: Result, finished: int, model_id: str | None) -> list[Any]:
    """The numbers of a result as MLflow's metrics, each with the list that it is of, and with the
    model if it is of the selected weights. `finished`: epoch milliseconds.

    The number to compare runs by, `test/SUITE/SPLIT`, is the selected epoch's, ensembled where the
    protocol does that.
    """
    from mlflow.entities import Metric

    lists = {
        (one.suite, one.split.name): f"{one.dataset}/{one.split.annotations}" for one in spec.suites
    }
    metrics = {}
    for one in sorted(result.measurements, key=lambda one: one.weights == "ensembled"):
        weights = f"{one.checkpoint}-{one.weights}-{one.views}"
        names = [f"final/{one.suite}/{one.split}/{one.metric}/{weights}"]
        if (one.checkpoint, one.metric) == ("best", "top1"):
            names.append(f"{TEST}{one.suite}/{one.split}")  # ensembled comes after raw
        file = lists.get((one.suite, one.split), "")
        digest = result.provenance.digests.get(file)
        of_list = (file, digest[:DIGEST_LENGTH]) if digest is not None else (None, None)
        model = model_id if one.checkpoint == "best" else None
        for name in names:
            metrics[name] = Metric(name, one.value, finished, 0, model, *of_list)
    return list(metrics.values())
