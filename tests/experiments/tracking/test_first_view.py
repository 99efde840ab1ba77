"""The first screen of MLflow's UI, a run's weights as a model, the table's numbers."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.tracking.first_view import VIEW, view
from experiments.tracking.logged_models import WEIGHTS, final_metrics, table_metrics
from experiments.tracking.mlflow_runs import METHOD, models_of
from results.report.report import report
from results.tables import formats
from tests.builders import make_result
from tests.experiments.tracking.mirrored import copies, mirror_of

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own
Command = Callable[..., tuple[int, str, str]]


def test_the_selected_weights_are_a_model_that_points_to_their_file(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    for _ in range(2):  # a copy that was cut short is made again, with the same model
        made = mirror_of(out)
        made.sync([spec.run_id])
        (run,) = copies(made, spec)
        made.client.delete_tag(run.info.run_id, "tcclip.synced")
    folder = Ledger(out).folder(spec.run_id)
    (model,) = models_of(made.client, run)
    assert (model.tags[WEIGHTS], model.status) == (str(folder.best), "READY")
    assert f"--checkpoint {shlex.quote(str(folder.best))}" in model.tags["mlflow.note.content"]
    assert [one.model_id for one in run.outputs.model_outputs] == [model.model_id]
    lists = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
    numbers = {one.key: one for one in model.metrics}
    for split in ("unseen1", "unseen2", "unseen3"):
        one = numbers[f"test/moving_shapes/{split}"]
        assert one.value == run.data.metrics[f"final/moving_shapes/{split}/top1/best-ensembled-2x1"]
        assert lists[one.dataset_name] == one.dataset_digest and split in one.dataset_name
    assert not [name for name in numbers if "/last-" in name], "those weights are no model"
    made.runs.delete(run)
    assert not models_of(made.client, run)


def test_the_view_compares_methods_over_their_seeds() -> None:
    specs = expand(Grid("few_shot", models=("tc_clip",), datasets=("hmdb51",), shots=(2,)))
    (one,) = specs
    metrics = {metric.key: metric for metric in final_metrics(one, make_result(one), 0, None)}
    assert metrics["test/hmdb51/val1"].value == 50, "raw, where nothing is ensembled"
    shown = view({*metrics, "loss", "epoch/val_top1"})
    charts = [(chart["type"], chart["metricKey"]) for chart in shown["compareRunCharts"]]
    bars, lines = [("BAR", "test/hmdb51/val1")], [("LINE", "epoch/val_top1"), ("LINE", "loss")]
    assert charts == bars + lines
    opened = [one["name"] for one in shown["compareRunSections"] if one["display"]]
    assert opened == ["results", "training"]
    assert shown["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": METHOD}]


def test_the_ui_prints_the_way_to_the_view_and_starts_a_small_server(
    again: tuple[Path, RunSpec], tcclip: Command, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    out, spec = again
    started: dict[str, Any] = {}

    def call(command: list[str], env: dict[str, str], **_: Any) -> int:
        started.update(command=command, env=env)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    assert tcclip("ui", "--sync", "--out", out)[0] == 0
    code, text, _ = tcclip("ui", "--out", out, "--port", closed_port)
    assert code == 0 and text.startswith("zero_shot (demo), 1 runs compared: http://127.0.0.1:")
    assert "workflowType=machine_learning" in text and f"viewStateShareKey={VIEW}" in text
    assert started["env"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert started["command"][-6:-4] == ["--workers", "1"]
    assert started["env"]["PATH"] == os.environ["PATH"]
    made = mirror_of(out)
    (run,) = copies(made, spec)
    experiment = made.client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    charts = json.loads(experiment.tags[f"mlflow.sharedViewState.{VIEW}"])["compareRunCharts"]
    assert {chart["metricKey"] for chart in charts} <= run.data.metrics.keys()


def test_the_parent_run_has_the_numbers_of_the_table(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    table = report(out, "zero_shot", demo=True)
    formats.write(table, tmp_path / "report")
    made = mirror_of(out)
    made.report(spec, tmp_path / "report")
    parent = made.client.get_run(made.runs.parent(spec))
    ours = [cell.ours.paper for row in table.rows for cell in row.cells if cell.ours is not None]
    expected = {round(value, 6) for one in ours if one for value in (one.mean, one.std)}
    assert set(parent.data.metrics.values()) == expected and expected
    assert all(name.startswith("table/TC-CLIP ") for name in parent.data.metrics)
    assert table_metrics(tmp_path) == [], "no report, no numbers"
