"""MLflow as a view of the run folders. The only file that imports mlflow, beside `tcclip ui`.

Workers never talk to MLflow: one process, the sweep's or `tcclip ui --sync`, copies what the run
folders say. So a tracker that is down costs nothing but the view, and a view that was wiped is
rebuilt. Copying twice changes nothing: steps already there are not sent again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

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
from results.records import Result

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

#: Tags. SYNCED holds the digest of the result that was copied.
RUN_ID, SYNCED, PARENT = "tcclip.run_id", "tcclip.synced", "tcclip.sweep"
SUPERSEDED = "tcclip.superseded"
#: MLflow's own limits on one log_batch call.
BATCH_METRICS, BATCH_PARAMS, PARAM_LENGTH = 1000, 100, 6000
SYNC_SECONDS = 5.0
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


@dataclass
class _Mirrored:
    """What is known of one run's copy: its MLflow id and the last steps sent, by record kind."""

    mlflow_id: str
    sent: dict[str, int]
    offset: int = 0
    seen: Stamp | None = None
    complete: bool = False


@dataclass
class Mirror:
    """Copies run folders of one ledger into MLflow; call `sync` as often as you like."""

    ledger: Ledger
    uri: str
    _runs: dict[str, _Mirrored] = field(default_factory=dict)
    _parents: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import mlflow.tracking

        if self.uri.startswith("sqlite") and not is_local(self.ledger.out):
            home(self.ledger.out).mkdir(parents=True, exist_ok=True)
        # The first connection creates a fresh database; from here on only this process writes.
        self.client = mlflow.tracking.MlflowClient(self.uri)

    def sync(self, specs: Sequence[RunSpec]) -> None:
        """Bring the copies of `specs` up to date with their folders."""
        for spec in specs:
            copy = self._runs.get(spec.run_id)
            if copy is not None and copy.complete:
                continue
            folder = self.ledger.folder(spec.run_id)
            begun = {path.name for path in (folder.metrics, folder.result, folder.failure)}
            if begun & set(names(folder.path)):
                self._sync_run(spec, folder)

    def report(self, spec: RunSpec, folder: Path) -> None:
        """Keep the report files of `folder` with the parent run of `spec`'s sweep."""
        self.client.log_artifacts(self._parent(spec), str(folder), "report")

    def links(self, specs: Sequence[RunSpec]) -> dict[str, str]:
        """run_id -> address of its page, in a server's UI or in the one of `tcclip ui`."""
        base = self.uri if self.uri.startswith("http") else LOCAL_UI
        found = {}
        for spec in specs:
            copy = self._runs.get(spec.run_id) or self._open(spec)
            page = f"experiments/{self._experiment(spec)}/runs/{copy.mlflow_id}"
            found[spec.run_id] = f"{base.rstrip('/')}/#/{page}"
        return found

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
        elif state is State.FAILED:
            failure = folder.read_failure()
            self.client.set_tag(copy.mlflow_id, "tcclip.error", failure.message if failure else "")
            self.client.set_terminated(copy.mlflow_id, "FAILED")
        else:
            status = "RUNNING" if state is State.RUNNING else "KILLED"
            self.client.update_run(copy.mlflow_id, status)

    def _send(self, copy: _Mirrored, folder: RunFolder) -> None:
        records = list(_records(folder, copy))
        self._log(copy.mlflow_id, [metric for record in records for metric in _metrics(record)])
        for record in records:
            copy.sent[record["kind"]] = record["step"]

    def _finish(self, copy: _Mirrored, folder: RunFolder, result: Result) -> None:
        self._log(copy.mlflow_id, list(_final_metrics(result)))
        for path in (folder.result, folder.log):
            if exists(path):
                with local_copy(path) as local:
                    self.client.log_artifact(copy.mlflow_id, str(local))
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
            sent = {
                kind: max(
                    (p.step for p in self.client.get_metric_history(run.info.run_id, name)),
                    default=1,
                )
                - 1  # the last record may have come in part; what came is not stored twice
                for kind, name in (("step", "loss"), ("epoch", "epoch/loss"))
            }
            return _Mirrored(run.info.run_id, sent)
        run = self.client.create_run(
            experiment, run_name=spec.run_id, tags={**_tags(spec), **self._child_tags(spec)}
        )
        self._log_parameters(run.info.run_id, spec)
        return _Mirrored(run.info.run_id, {})

    def _child_tags(self, spec: RunSpec) -> dict[str, str]:
        return {"mlflow.parentRunId": self._parent(spec)}

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
        "overrides": " ".join(key.overrides),
    }
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
        record = json.loads(line)
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


@dataclass
class Follower:
    """A thread that keeps a mirror up to date while a sweep runs. Never fails the sweep."""

    ledger: Ledger
    uri: str
    specs: Sequence[RunSpec]
    warn: Any
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _warned: bool = False

    def __enter__(self) -> Follower:
        self._thread = threading.Thread(target=self._follow, daemon=True, name="mlflow")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def _follow(self) -> None:
        mirror: Mirror | None = None
        last = False
        while not last:
            last = self._stop.wait(SYNC_SECONDS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # mlflow's own deprecations are not the user's
                try:
                    mirror = mirror or Mirror(self.ledger, self.uri)
                    mirror.sync(self.specs)
                except Exception as error:  # noqa: BLE001
                    # Whatever the tracker does, the runs and their files go on; said once.
                    self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            self.warn(
                f"MLflow at {self.uri} cannot be written ({type(error).__name__}: {error}); "
                "runs go on, and `tcclip ui --sync` will copy them later"
            )
