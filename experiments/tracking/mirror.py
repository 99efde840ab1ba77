"""What the run folders say, copied to MLflow.

Workers never talk to MLflow: one process, the sweep's or `tcclip ui --sync`, reads the run folders
and sends what MLflow lacks. Copying twice changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.grid.overrides import flat
from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.tracking.connection import (
    ARTIFACTS,
    LOCAL_UI,
    home,
    open_database,
    redact_url,
    sqlite_file,
)
from experiments.tracking.logged_models import (
    DIGEST_LENGTH,
    final_metrics,
    log_model,
    table_metrics,
)
from experiments.tracking.mlflow_runs import (
    ERROR,
    OUTPUT,
    PARAM_LENGTH,
    RUN_ID,
    SYNCED,
    TAG_LENGTH,
    MlflowRuns,
    result_digest,
)
from results.reading.location import (
    Location,
    exists,
    folder_names,
    local_copy,
    read_bytes,
    stamp,
    storage_errors,
)
from results.reading.metrics_log import Record, read_records
from results.reading.run_folder import RunFolder, State
from results.records import Failure, Result
from tcclip.text_files import check_regular

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # errors are printed once, by us
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# For a server that hangs: by default MLflow's client waits for 120 s a call, 8 times over.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

#: How many runs an error names.
NAMED = 10
#: Kind of record -> its fields and their names in MLflow. If the last one of a record arrived, the
#: whole record did.
METRICS = {
    "step": {"loss": "loss", "lr": "lr", "lr_fast": "lr_fast"},
    "epoch": {
        "loss": "epoch/loss",
        "top1": "epoch/val_top1",
        "top5": "epoch/val_top5",
        "train_seconds": "epoch/train_seconds",
    },
}


class Incomplete(RuntimeError):
    """Some runs are not in MLflow, or only a part of them; all others are."""

    def __init__(self, errors: dict[str, str]) -> None:
        lines = [f"  {run_id}: {why}" for run_id, why in list(errors.items())[:NAMED]]
        more = [f"  and {len(errors) - NAMED} more"] if len(errors) > NAMED else []
        super().__init__("\n".join(lines + more))


@dataclass
class _Copy:
    """What this process knows of a run's copy. `sent`: kind of record -> the last step sent."""

    mlflow_id: str
    sent: dict[str, int]
    complete: bool
    #: The start records that were read: a new one begins another attempt.
    starts: list[Record]
    #: The metrics file that was sent, and the state.
    metrics: str | None = None
    shown: tuple[State, Failure | None] | None = None


@dataclass
class Mirror:
    """Copies the run folders of a ledger to MLflow; `sync` may be called as often as you like.

    MLflow's own errors if the tracker does not answer. `copies`: by run id.
    """

    ledger: Ledger
    uri: str
    copies: dict[str, _Copy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from mlflow.tracking import MlflowClient

        database = sqlite_file(self.uri)
        if database is not None:
            open_database(self.uri, database)
        self.client = MlflowClient(self.uri)
        # A server has its own store of artifacts; with a database MLflow would use this folder.
        folder = home(self.ledger.out) if database is None else database.resolve().parent
        server = self.uri.startswith(("http://", "https://", "databricks"))
        artifacts = None if server else (folder / ARTIFACTS).as_uri()
        self.runs = MlflowRuns(self.client, self.ledger.out, artifacts)
        self._own_database = database is not None and folder == home(self.ledger.out)

    # ---- All runs ----

    def sync(self, run_ids: Collection[str], last: bool = False) -> None:
        """Send what MLflow lacks of these runs.

        `last`: also what no sweep works on any more: a run that MLflow shows as running becomes
        KILLED, FAILED or FINISHED, since a killed sweep cannot say so itself, and the copy of a
        deleted run folder is deleted.
        MLflow's own errors if the tracker does not answer. Incomplete, once all others are copied,
        if some runs cannot be.
        """
        if last:
            run_ids = dict.fromkeys([*run_ids, *self._reconcile()])
        # Twice: another process may have created or deleted an MLflow run at the same moment.
        errors = self._sync_all(self._sync_all(run_ids))
        if errors:
            raise Incomplete(errors)

    def _reconcile(self) -> list[str]:
        """The runs that MLflow shows as running, once the copies of deleted folders are deleted."""
        present = set(folder_names(self.ledger.runs))
        running, emptied, kept = [], set(), set()
        for run in self.runs.all():
            run_id, parent = run.data.tags[RUN_ID], run.data.tags["mlflow.parentRunId"]
            # On a server, a copy of this folder elsewhere may have the same id.
            ours = self._own_database or run.data.tags[OUTPUT] == self.runs.path
            if run_id not in present and ours:
                self.runs.delete(run)
                emptied.add(parent)
                continue
            kept.add(parent)
            if run_id in present and run.info.status == "RUNNING":
                self.copies.pop(run_id, None)
                running.append(run_id)
        self.runs.delete_parents(emptied - kept)
        return running

    def _sync_all(self, run_ids: Collection[str]) -> dict[str, str]:
        """Run id -> why it could not be copied. Raises if the tracker does not answer."""
        errors = {}
        for run_id in run_ids:
            try:
                self._sync_run(self.ledger.folder(run_id))
            except Exception as error:  # noqa: BLE001
                # Damaged files, or anything a tracker may refuse, such as too large a file.
                self.copies.pop(run_id, None)
                self.client.search_experiments(max_results=1)  # raises if the tracker is down
                errors[run_id] = f"{type(error).__name__}: {redact_url(str(error))}"
        return errors

    def report(self, spec: RunSpec, folder: Path) -> None:
        """Keep the report files of `folder`, and the numbers in them, with the parent run of
        `spec`'s sweep."""
        parent = self.runs.parent(spec)
        self.client.log_artifacts(parent, str(folder), "report")
        self.client.log_batch(parent, metrics=table_metrics(folder))

    def links(self, specs: Sequence[RunSpec]) -> dict[str, str]:
        """run_id -> URL of its page, in a server's UI or in the one of `tcclip ui`."""
        base = redact_url(self.uri if self.uri.startswith("http") else LOCAL_UI).rstrip("/")
        runs = {run.data.tags[RUN_ID]: run.info for run in self.runs.all()}
        return {
            spec.run_id: f"{base}/#/experiments/{found.experiment_id}/runs/{found.run_id}"
            for spec in specs
            if (found := runs.get(spec.run_id)) is not None
        }

    # ---- One run ----

    def _sync_run(self, folder: RunFolder) -> None:
        copy = self.copies.get(folder.run_id)
        if copy is not None and copy.complete:
            return
        state = folder.state()  # before its metrics are read, so that none are missed at its end
        if state is State.PLANNED:
            return
        result = folder.read_result() if state is State.FINISHED else None
        if copy is None or copy.metrics != stamp(folder.metrics):
            copy = self._send_metrics(copy, folder, result)
        if copy.complete:
            return
        if result is None:
            self._show_state(copy, folder, state)
        else:
            self._finish(copy, folder, result)

    def _send_metrics(self, copy: _Copy | None, folder: RunFolder, result: Result | None) -> _Copy:
        """Send the records that MLflow lacks; what is known of the run's copy then."""
        now = stamp(folder.metrics)
        records, _ = read_records(read_bytes(folder.metrics) or b"")
        starts = [record for record in records if record["kind"] == "start"]
        if copy is None or copy.starts != starts:
            start = int(records[0]["time"] * 1000) if records else None
            if start is None and result is not None:  # one that was only tested
                start = _milliseconds(result.provenance.started)
            copy = self.copies[folder.run_id] = self._open(folder, starts, start)
        if not copy.complete:
            new = [one for one in records if one["step"] > copy.sent.get(one["kind"], 0)]
            metrics = [metric for record in new for metric in _metrics(record)]
            self.client.log_batch(copy.mlflow_id, metrics=metrics)
            copy.sent |= {record["kind"]: record["step"] for record in new}
        copy.metrics = now
        return copy

    def _open(self, folder: RunFolder, starts: list[Record], start: int | None) -> _Copy:
        """Find or create a run's copy, and ask MLflow how much of the run it has.

        A resumed attempt repeats steps that an earlier one sent, with other times: MLflow would
        show both, so they are not sent again.
        """
        from mlflow.entities import Param

        spec = self.ledger.spec(folder.run_id)
        run = self.runs.run_of(spec, folder, start)
        mlflow_id = run.info.run_id
        complete = SYNCED in run.data.tags and run.info.status == "FINISHED"
        settings = spec.model_dump(mode="json", include={"key", "model", "train", "augment"})
        params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat(settings)]
        if len(run.data.params) < len(params):  # new, or cut short
            self._log_files(mlflow_id, folder.spec)
            self.client.log_batch(mlflow_id, params=params)
        sent = {}
        for kind, fields in {} if complete else METRICS.items():
            history = self.client.get_metric_history(mlflow_id, list(fields.values())[-1])
            sent[kind] = max((point.step for point in history), default=0)
        return _Copy(mlflow_id, sent, complete, starts)

    def _show_state(self, copy: _Copy, folder: RunFolder, state: State) -> None:
        """The state of a run that is not finished; a run that goes on is RUNNING again."""
        failure = folder.read_failure() if state is State.FAILED else None
        if copy.shown == (state, failure):
            return
        self.client.set_tag(
            copy.mlflow_id, ERROR, "" if failure is None else failure.message[:TAG_LENGTH]
        )
        if state is State.RUNNING:
            self.client.update_run(copy.mlflow_id, "RUNNING")
        elif failure is None:
            self.client.set_terminated(copy.mlflow_id, "KILLED")
        else:
            self.client.set_terminated(copy.mlflow_id, "FAILED", _milliseconds(failure.time))
            # Last: a store may refuse a file.
            self._log_files(copy.mlflow_id, folder.failure, folder.log)
        copy.shown = state, failure

    def _finish(self, copy: _Copy, folder: RunFolder, result: Result) -> None:
        from mlflow.entities import Dataset, DatasetInput

        provenance = result.provenance
        finished = _milliseconds(provenance.finished)
        self.client.set_tag(copy.mlflow_id, ERROR, "")
        model = None
        if result.selection.best_epoch:
            weights = str(folder.best_of(result.selection.best_epoch))
            model = log_model(self.client, copy.mlflow_id, weights, result)
        spec = self.ledger.spec(folder.run_id)
        metrics = final_metrics(spec, result, finished, model)
        self.client.log_batch(copy.mlflow_id, metrics=metrics)
        self.client.set_tag(copy.mlflow_id, "git_commit", provenance.git_commit or "unknown")
        lists = [
            DatasetInput(Dataset(name, digest[:DIGEST_LENGTH], "annotation list", name))
            for name, digest in provenance.digests.items()
            if name.endswith(".txt")
        ]
        self.client.log_inputs(copy.mlflow_id, datasets=lists)
        self.client.set_terminated(copy.mlflow_id, "FINISHED", finished)
        # Last: a store may refuse a file.
        self._log_files(copy.mlflow_id, folder.result, folder.log)
        self.client.set_tag(copy.mlflow_id, SYNCED, result_digest(folder))
        copy.complete = True

    def _log_files(self, mlflow_id: str, *files: Location) -> None:
        for path in files:
            if exists(path):
                with local_copy(path) as local:
                    with storage_errors(path):
                        check_regular(local)  # MLflow copies a device until the disk is full
                    self.client.log_artifact(mlflow_id, str(local))


def _metrics(record: Record) -> list[Any]:
    from mlflow.entities import Metric

    when = int(record["time"] * 1000)
    return [
        Metric(name, float(record[source]), when, record["step"])
        for source, name in METRICS.get(record["kind"], {}).items()
        if source in record
    ]


def _milliseconds(time: str) -> int:
    """ISO 8601 as milliseconds since the epoch."""
    return int(datetime.fromisoformat(time).timestamp() * 1000)
