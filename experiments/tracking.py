"""MLflow as a view of the run folders. The only file that imports mlflow, beside `tcclip ui`.

Workers never talk to MLflow: one process, the sweep's or `tcclip ui --sync`, copies what the run
folders say. So a tracker that is down costs nothing but the view, and a view that was wiped is
rebuilt. Copying twice changes nothing: steps already there are not sent again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import protocols
from experiments.answering import check_answers, hidden
from experiments.errors import OutputUnusable
from experiments.files import (
    Location,
    Stamp,
    exists,
    is_local,
    local_copy,
    names,
    read_bytes,
    read_from,
    stamp,
)
from experiments.ledger import Ledger, RunFolder, State
from experiments.overrides import flat
from experiments.spec import RunSpec
from results.records import Failure, Result

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what fails is told once, by us
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# A server that hangs: by default MLflow would wait for 120 s a call, 8 times over.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

log = logging.getLogger(__name__)

#: Tags. SYNCED holds the digest of the result that was copied.
RUN_ID, SYNCED, PARENT = "tcclip.run_id", "tcclip.synced", "tcclip.sweep"
SUPERSEDED, ERROR = "tcclip.superseded", "tcclip.error"
#: MLflow's own limits on one log_batch call.
BATCH_METRICS, BATCH_PARAMS, PARAM_LENGTH, TAG_LENGTH, PAGE = 1000, 100, 6000, 5000, 1000
#: One experiment a protocol, demo apart.
EXPERIMENTS = tuple(f"{name}{demo}" for name in protocols.PROTOCOLS for demo in ("", " (demo)"))
LOCAL_UI = "http://127.0.0.1:5000"


def default_uri(out: Location) -> str:
    """$MLFLOW_TRACKING_URI, or else an absolute sqlite URI in the output folder's `home`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(out) / 'mlflow.db'}"


def home(out: Location) -> Path:
    """The local folder for MLflow's copy of the runs of `out`, absolute: `out` itself, or one in
    the user's cache for a store, which cannot hold a database. Not made here."""
    if isinstance(out, Path):
        return out.resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(str(out).encode()).hexdigest()[:8]
    return cache.resolve() / "tcclip" / f"{out.name}-{digest}"


def artifact_folder(out: Location) -> str:
    """Where artifacts of a local store go: absolute, since workers and UI run elsewhere."""
    return (home(out) / "mlflow-artifacts").as_uri()


class Damaged(RuntimeError):
    """Files of these runs cannot be understood, so MLflow lacks them; all others were copied."""


@dataclass
class _Mirrored:
    """What is known of one run's copy: its MLflow id and the last steps sent, by record kind."""

    mlflow_id: str
    sent: dict[str, int]
    offset: int = 0
    seen: Stamp | None = None
    complete: bool = False
    #: What was told of the run's state: MLflow's name for it, and the failure.
    told: tuple[str, Failure | None] | None = None
    #: Whether it has the tag of an earlier attempt's error.
    error: bool = False


@dataclass
class Mirror:
    """Copies run folders of one ledger into MLflow; call `sync` as often as you like."""

    ledger: Ledger
    uri: str
    #: Of the code that runs, where that is known: the tag of copies that are made from now on.
    commit: str | None = None
    _runs: dict[str, _Mirrored] = field(default_factory=dict)
    _parents: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_answers(self.uri)
        import mlflow.tracking

        if self.uri.startswith("sqlite") and not is_local(self.ledger.out):
            home(self.ledger.out).mkdir(parents=True, exist_ok=True)
        # The first connection creates a fresh database; from here on only this process writes.
        self.client = mlflow.tracking.MlflowClient(self.uri)

    def sync(self, specs: Sequence[RunSpec]) -> None:
        """Bring the copies of `specs` up to date with their folders.

        ConnectionError or MLflow's own errors if the tracker cannot be written. Damaged, once the
        others are copied, if files of some runs cannot be understood.
        """
        damaged: dict[str, str] = {}
        for spec in specs:
            copy = self._runs.get(spec.run_id)
            if copy is not None and copy.complete:
                continue
            folder = self.ledger.folder(spec.run_id)
            begun = {path.name for path in (folder.metrics, folder.result, folder.failure)}
            try:
                if begun & set(names(folder.path)):
                    self._sync_run(spec, folder)
            except (LookupError, TypeError, AttributeError, OutputUnusable) as error:
                damaged[spec.run_id] = f"{type(error).__name__}: {error}"
        if damaged:
            raise Damaged("; ".join(f"{run_id}: {why}" for run_id, why in damaged.items()))

    def report(self, spec: RunSpec, folder: Path) -> None:
        """Keep the report files of `folder` with the parent run of `spec`'s sweep."""
        self.client.log_artifacts(self._parent(spec), str(folder), "report")

    def settle(self) -> None:
        """What MLflow shows as running while nobody works on it becomes KILLED (or FAILED).

        Of all sweeps into this ledger, the one at work or not: a killed one cannot say it itself.
        """
        query = f"attributes.status = 'RUNNING' and tags.`{RUN_ID}` != ''"
        for run in list(self._search(query)):  # all pages, before any of them changes
            state = self.ledger.folder(run.data.tags[RUN_ID]).state()
            # Planned: not begun, or in another output folder that shares the tracker.
            if state not in (State.PLANNED, State.RUNNING, State.FINISHED):
                status = "FAILED" if state is State.FAILED else "KILLED"
                self.client.set_terminated(run.info.run_id, status)

    def links(self, specs: Sequence[RunSpec]) -> dict[str, str]:
        """run_id -> address of its page, in a server's UI or in the one of `tcclip ui`."""
        base = hidden(self.uri if self.uri.startswith("http") else LOCAL_UI).rstrip("/")
        wanted, found = {spec.run_id for spec in specs}, {}
        for run in self._search(f"tags.`{RUN_ID}` != ''"):
            run_id, where = run.data.tags[RUN_ID], run.info
            if run_id in wanted and SUPERSEDED not in run.data.tags:
                found[run_id] = f"{base}/#/experiments/{where.experiment_id}/runs/{where.run_id}"
        return found

    def _search(self, query: str) -> Iterator[Any]:
        """The runs of our experiments that a query finds, however many."""
        found = (self.client.get_experiment_by_name(name) for name in EXPERIMENTS)
        ids = [experiment.experiment_id for experiment in found if experiment is not None]
        token = None
        while ids:
            page = self.client.search_runs(ids, query, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _sync_run(self, spec: RunSpec, folder: RunFolder) -> None:
        copy = self._runs.get(spec.run_id) or self._open(spec)
        self._runs[spec.run_id] = copy
        if copy.complete:  # by another process
            return
        # Asked first: a run that ends while its records are sent has more of them, for next time.
        state = folder.state()
        result = folder.read_result() if state is State.FINISHED else None
        try:
            self._send(copy, folder)
        except Exception:
            # Nobody knows how much of it arrived: next time the tracker is asked.
            del self._runs[spec.run_id]
            raise
        if result is not None:
            self._finish(copy, folder, result)
        else:
            self._tell(copy, folder, state)

    def _tell(self, copy: _Mirrored, folder: RunFolder, state: State) -> None:
        """The state of a run that is not finished, once: a run that goes on is RUNNING again."""
        failure = folder.read_failure() if state is State.FAILED else None
        status = {State.RUNNING: "RUNNING", State.FAILED: "FAILED"}.get(state, "KILLED")
        if copy.told == (status, failure):
            return
        if failure is not None:
            self.client.set_tag(copy.mlflow_id, ERROR, failure.message[:TAG_LENGTH])
            copy.error = True
            self._keep(copy, folder.failure, folder.log)
        else:
            self._clear_error(copy)
        if status == "RUNNING":
            self.client.update_run(copy.mlflow_id, status)
        else:
            self.client.set_terminated(copy.mlflow_id, status)
        copy.told = status, failure

    def _clear_error(self, copy: _Mirrored) -> None:
        """The error of an earlier attempt is not that of the one at work."""
        if copy.error:
            self.client.delete_tag(copy.mlflow_id, ERROR)
            copy.error = False

    def _keep(self, copy: _Mirrored, *files: Location) -> None:
        for path in files:
            if exists(path):
                with local_copy(path) as local:
                    self.client.log_artifact(copy.mlflow_id, str(local))

    def _send(self, copy: _Mirrored, folder: RunFolder) -> None:
        records = list(_records(folder, copy))
        self._log(copy.mlflow_id, [metric for record in records for metric in _metrics(record)])
        for record in records:
            copy.sent[record["kind"]] = record["step"]

    def _finish(self, copy: _Mirrored, folder: RunFolder, result: Result) -> None:
        self._log(copy.mlflow_id, list(_final_metrics(result)))
        self._clear_error(copy)
        self._keep(copy, folder.result, folder.log)
        provenance = result.provenance
        self.client.set_tag(copy.mlflow_id, "git_commit", provenance.git_commit or "unknown")
        self._log_lists(copy.mlflow_id, provenance.digests)
        self.client.set_terminated(copy.mlflow_id, "FINISHED")
        self.client.set_tag(copy.mlflow_id, SYNCED, _digest(folder))
        copy.complete = True

    def _log_lists(self, mlflow_id: str, digests: dict[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        inputs = [
            DatasetInput(Dataset(name, digest[:36], "annotation list", name))
            for name, digest in digests.items()
            if name.endswith(".txt")
        ]
        self.client.log_inputs(mlflow_id, datasets=inputs)

    def _open(self, spec: RunSpec) -> _Mirrored:
        """Find the copy of a run by its tag, or create it."""
        experiment = self._experiment(spec)
        found = self.client.search_runs([experiment], f"tags.`{RUN_ID}` = '{spec.run_id}'")
        found = [run for run in found if SUPERSEDED not in run.data.tags]
        digest = _digest(self.ledger.folder(spec.run_id))
        if found and found[0].data.tags.get(SYNCED, digest) != digest:
            # Run again since: the numbers that were shown stay, marked, and a new run begins.
            self.client.set_tag(found[0].info.run_id, SUPERSEDED, "true")
            found = []
        if found:
            run = found[0]
            if SYNCED in run.data.tags:
                return _Mirrored(run.info.run_id, {}, complete=True)
            if not run.data.params:  # made by a process that got no further
                self._log_parameters(run.info.run_id, spec)
            # The last metric of a record is there only if the record came whole. A resumed run
            # writes its steps anew, with other times: sent again, they would stand there twice.
            sent = {
                kind: max(
                    (p.step for p in self.client.get_metric_history(run.info.run_id, name)),
                    default=0,
                )
                for kind, name in (("step", "lr_fast"), ("epoch", "epoch/train_seconds"))
            }
            return _Mirrored(run.info.run_id, sent, error=ERROR in run.data.tags)
        run = self.client.create_run(
            experiment, run_name=spec.run_id, tags={**_tags(spec), **self._more_tags(spec)}
        )
        self._log_parameters(run.info.run_id, spec)
        return _Mirrored(run.info.run_id, {})

    def _more_tags(self, spec: RunSpec) -> dict[str, str]:
        code = {} if self.commit is None else {"git_commit": self.commit}
        return {"mlflow.parentRunId": self._parent(spec), **code}

    def _parent(self, spec: RunSpec) -> str:
        """The run that stands for the sweep: one a protocol, demo apart."""
        name = _sweep_name(spec)
        if name not in self._parents:
            experiment = self._experiment(spec)
            found = self.client.search_runs([experiment], f"tags.`{PARENT}` = '{name}'")
            run = (
                found[0]
                if found
                else self.client.create_run(
                    experiment, run_name=f"sweep {name}", tags={PARENT: name}
                )
            )
            if not found:
                self.client.set_terminated(run.info.run_id, "FINISHED")
            self._parents[name] = run.info.run_id
        return self._parents[name]

    def _experiment(self, spec: RunSpec) -> str:
        name = _sweep_name(spec)
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        # A server has its own artifact store; a local database needs to be told a place.
        place = artifact_folder(self.ledger.out) if self.uri.startswith("sqlite") else None
        # The UI's training view, not the one for language model applications.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, artifact_location=place, tags=kind))

    def _log_parameters(self, mlflow_id: str, spec: RunSpec) -> None:
        from mlflow.entities import Param

        chosen = spec.model_dump(mode="json", include={"key", "model", "train", "augment"})
        params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat(chosen)]
        for start in range(0, len(params), BATCH_PARAMS):
            self.client.log_batch(mlflow_id, params=params[start : start + BATCH_PARAMS])
        self.client.log_text(
            mlflow_id, json.dumps(spec.model_dump(mode="json"), indent=1), "spec.json"
        )

    def _log(self, mlflow_id: str, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), BATCH_METRICS):
            self.client.log_batch(mlflow_id, metrics=metrics[start : start + BATCH_METRICS])


def _digest(folder: RunFolder) -> str:
    """sha256 of the run's result, "" while there is none."""
    data = read_bytes(folder.result)
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _sweep_name(spec: RunSpec) -> str:
    return f"{spec.key.protocol}{' (demo)' if spec.key.demo else ''}"


def _tags(spec: RunSpec) -> dict[str, str]:
    key = spec.key
    tags = {
        RUN_ID: spec.run_id,
        "protocol": key.protocol,
        "data set": key.dataset,
        "model": key.model,
        "variant": key.variant,
        "seed": str(key.seed),
    }
    if key.overrides:
        tags["overrides"] = " ".join(key.overrides)[:TAG_LENGTH]
    if key.shots is not None:
        tags["shots"] = str(key.shots)
    if key.base_split is not None:
        tags["base split"] = str(key.base_split)
    return tags


def _records(folder: RunFolder, copy: _Mirrored) -> Iterator[dict[str, Any]]:
    """Whole metrics records not sent yet. A file that shrank was cut back by a resumed run."""
    now = stamp(folder.metrics)
    if now is None or now == copy.seen:
        return
    if now.size < copy.offset:
        copy.offset = 0
    data = read_from(folder.metrics, copy.offset) if now.size > copy.offset else b""
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # being written just now; next time
        copy.offset += len(line)
        try:
            record = json.loads(line)
        except ValueError:
            log.warning("%s: a damaged line is left out", folder.metrics)
            continue
        if record["step"] > copy.sent.get(record["kind"], 0):
            yield record
    copy.seen = now


def _metrics(record: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Metric

    names = {
        "step": {"loss": "loss", "lr": "lr", "lr_fast": "lr_fast"},
        "epoch": {
            "loss": "epoch/loss", "top1": "epoch/val_top1", "top5": "epoch/val_top5",
            "train_seconds": "epoch/train_seconds",
        },
    }.get(record["kind"], {})  # fmt: skip
    when = int(record["time"] * 1000)
    return [
        Metric(to, float(record[name]), when, int(record["step"]))
        for name, to in names.items()
        if name in record
    ]


def _final_metrics(result: Result) -> Iterator[Any]:
    from mlflow.entities import Metric

    when = int(datetime.fromisoformat(result.provenance.finished).timestamp() * 1000)
    for one in result.measurements:
        name = (
            f"final/{one.suite}/{one.split}/{one.metric}/{one.checkpoint}-{one.weights}-{one.views}"
        )
        yield Metric(name, one.value, when, 0)
