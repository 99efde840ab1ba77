"""What MLflow's UI shows first of an experiment: its runs compared, seeds as one.

The UI keeps a view that is shared, by its Share button, in a tag of the experiment, as JSON; a link
names the tag. This module writes such a tag.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from experiments.tracking.logged_models import TEST
from experiments.tracking.mlflow_runs import METHOD, RUN_ID

#: Name of the view in links.
VIEW = "tcclip"
#: How the tag of a view begins.
_SHARED = "mlflow.sharedViewState."
#: Charts of final tests, at most: more fill no screen.
MOST_TESTS = 12
#: Runs whose metrics name the charts.
_LOOKED_AT = 50
_CURVES = ("epoch/val_top1", "loss", "lr")


def keep_views(client: Any, runs: Collection[Any]) -> Iterator[tuple[str, int, str]]:
    """Keep the view of each experiment of `runs`; its name, how many runs it has, and the address
    of the view in a UI."""
    by_experiment: dict[str, list[Any]] = {}
    for run in runs:
        by_experiment.setdefault(run.info.experiment_id, []).append(run)
    for experiment, own in by_experiment.items():
        metrics = {name for run in own[:_LOOKED_AT] for name in run.data.metrics}
        client.set_experiment_tag(experiment, _SHARED + VIEW, json.dumps(view(metrics)))
        name = client.get_experiment(experiment).name
        query = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={VIEW}"
        yield name, len(own), f"#/experiments/{experiment}/runs?{query}"


def view(metrics: Collection[str]) -> dict[str, Any]:
    """The state of the UI that compares runs with these metrics: bars of the final tests, then the
    curves of the training; runs of one method and data set, all seeds, are one."""
    tests = sorted(name for name in metrics if name.startswith(TEST))
    names = ("results", "training")
    charts = [_chart("BAR", "results", metric) for metric in tests[:MOST_TESTS]]
    charts += [_chart("LINE", "training", metric) for metric in _CURVES if metric in metrics]
    # All other metrics have charts too, which the UI makes; their sections stay closed.
    closed = sorted({name.rpartition("/")[0] for name in metrics if "/" in name})
    sections = [*names, *closed, "Model metrics", "System metrics"]
    return {
        # Not the parents, which hold the table's numbers.
        "searchFilter": f"tags.`{RUN_ID}` LIKE '%'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "lifecycleFilter": "Active",
        "selectedColumns": [
            "attributes.`Models`",
            *(f"params.`key.{name}`" for name in ("dataset", "model", "variant", "seed")),
            *(f"metrics.`{name}`" for name in ("epoch/val_top1", *tests)),
        ],
        "runsHiddenMode": "FIRST_20_RUNS",
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": METHOD}],
        },
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name in names, "isReordered": True}
            for name in sections
        ],
        "isAccordionReordered": True,
    }


def _chart(kind: str, section: str, metric: str) -> dict[str, Any]:
    chart = {
        "uuid": f"{section}-{metric}",
        "type": kind,
        "metricSectionId": section,
        "metricKey": metric,
        "displayName": metric,
        "runsCountToCompare": 20,
        "deleted": False,
        "isGenerated": False,
    }
    if kind == "LINE":
        chart |= {"selectedMetricKeys": [metric], "xAxisKey": "step", "scaleType": "linear"}
        chart |= {"yAxisKey": "metric", "yAxisExpressions": [], "range": {}, "lineSmoothness": 0}
    return chart
