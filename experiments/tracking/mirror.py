"""The mirror: what the run folders say, copied to MLflow.

Workers never talk to MLflow: one process, the sweep's or `tcclip ui --sync`, copies what the run
folders say. So a tracker that is down costs nothing but the view, and a view that was wiped is
rebuilt. Copying twice changes nothing: steps already there are not sent again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.grid.spec import RunSpec
from experiments.store.ledger import STORE_THREADS, Ledger
from experiments.tracking.connection import check_answers, redact_url
from experiments.tracking.lock import NotOurTurn
from experiments.tracking.mlflow_runs import (
    ERROR,
    EXPERIMENTS,
    OUTPUT,
    RUN_ID,
    SUPERSEDED,
    SYNCED,
    TAG_LENGTH,
    Copies,
    History,
    begun,
    parameters,
)
from experiments.tracking.sqlite_file import ARTIFACTS, SqliteFile, sqlite_file, sqlite_uri
from experiments.tracking.sync_errors import Trouble, reading
from results.reading.location import (
    Location,
    Stamp,
    exists,
    is_local,
    local_copy,
    names,
    read_from,
    stamp,
)
from results.reading.run_folder import RunFolder, State
from results.records import Failure, Result

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what fails is told once, by us
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# A server that hangs: by default MLflow would wait for 120 s a call, 8 times over.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

log = logging.getLogger(__name__)

#: MLflow's own limits on one log_batch call.
BATCH_METRICS, BATCH_PARAMS = 1000, 100
_SERVERS = ("http://", "https://", "databricks")
#: How often it is looked whether copies may be made by now.
TURN_SECONDS = 0.5
#: A run that the tracker refused twice is all sent again, so not in every pass.
REFUSED_SECONDS = 60.0
LOCAL_UI = "http://127.0.0.1:5000"


def default_uri(out: Location) -> str:
    """$MLFLOW_TRACKING_URI, or else a database in the output folder's `home`.

    The path of a SQLite file is made absolute: `tcclip ui` serves it from elsewhere.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(home(out) / "mlflow.db")
    file = sqlite_file(uri)
    return uri if file is None or file.is_absolute() else sqlite_uri(file)


def home(out: Location) -> Path:
    """The local folder for MLflow's copy of the runs of `out`, absolute: `out` itself, or one in
    the user's cache for a store, which cannot hold a database. Not made here."""
    if isinstance(out, Path):
        return out.resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(str(out).encode()).hexdigest()[:8]
    return cache.resolve() / "tcclip" / f"{out.name}-{digest}"


def database_of(uri: str) -> SqliteFile | None:
    """The database behind a tracking URI if it is a file, which need not be there."""
    file = sqlite_file(uri)
    return None if file is None else SqliteFile(uri, file, EXPERIMENTS, OUTPUT)


class StillCopying(TimeoutError):
    """Another process has been making copies for as long as this one would wait."""


@dataclass
class _Mirrored:
    """What is known of one run's copy: its MLflow id and the last steps sent, by record kind."""

    mlflow_id: str
    #: When its first record was written, as `begun` says.
    first: str
    sent: dict[str, int]
    offset: int = 0
    #: The line that ends at `offset`.
    last: bytes = b""
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
    #: What the tracker refused is not sent again before then (monotonic seconds), by run id.
    _later: dict[str, float] = field(default_factory=dict)
    #: Why copies could not be made, the last time.
    _why_left: str = ""

    def __post_init__(self) -> None:
        check_answers(self.uri)
        import mlflow.tracking

        self._file = database_of(self.uri)
        # A server has its own artifact store; a database has none, and would take this very folder.
        artifacts = None
        if self._file is not None:
            self._file.ensure()
            artifacts = self._file.artifacts
        elif not self.uri.startswith(_SERVERS):
            artifacts = (home(self.ledger.out) / ARTIFACTS).as_uri()
        self.client = mlflow.tracking.MlflowClient(self.uri)
        self.copies = Copies(self.client, self.ledger.out, artifacts, self.commit)

    def sync(self, specs: Sequence[RunSpec], wait: float = 0.0) -> None:
        """Bring the copies of `specs` up to date with their folders.

        Copies that are missing while another process makes some are left for the next time, or
        made after up to `wait` seconds; StillCopying if that is not enough. ConnectionError or
        MLflow's own errors if the tracker does not answer. Incomplete, once the others are copied,
        if something is wrong with some of them.
        """
        if self._file is not None and self._file.ensure():  # removed by somebody, and made again
            self._runs.clear()
            self.copies.forget()
        trouble = self._trouble()
        end = time.monotonic() + wait
        if wait:
            self._later.clear()
        left = self._sync(specs, trouble)
        while left and wait and time.monotonic() < end:
            time.sleep(TURN_SECONDS)
            left = self._sync(left, trouble)
        trouble.check()
        if left and wait:
            raise StillCopying(f"{len(left)} runs are left after {wait:g} s: {self._why_left}")

    def _trouble(self) -> Trouble:
        return Trouble(lambda: self.client.search_experiments(max_results=1))

    def _sync(self, specs: Sequence[RunSpec], trouble: Trouble) -> list[RunSpec]:
        """One pass over `specs`; the ones whose copies are another process's to make."""
        left: list[RunSpec] = []
        wanted = [spec for spec in specs if self._wanted(spec)]
        # A store is asked about many runs at once: most of a large grid may not have begun.
        pool = ThreadPoolExecutor(1 if is_local(self.ledger.out) else STORE_THREADS)
        try:
            for spec, begun in [(spec, pool.submit(self._has_begun, spec)) for spec in wanted]:
                try:
                    with trouble.of(spec.run_id):
                        if begun.result():
                            self._sync_run(spec, self.ledger.folder(spec.run_id))
                except NotOurTurn as error:
                    left.append(spec)
                    self._why_left = str(error)
                if spec.run_id not in trouble.refused:
                    self._later.pop(spec.run_id, None)
                else:  # the first time it may be by chance
                    again = REFUSED_SECONDS if spec.run_id in self._later else 0.0
                    self._later[spec.run_id] = time.monotonic() + again
                self.copies.turn.offer()
        finally:
            pool.shutdown(cancel_futures=True)
            self.copies.turn.end()
        return left

    def _wanted(self, spec: RunSpec) -> bool:
        """Whether the run's copy is to be looked at in this pass."""
        copy = self._runs.get(spec.run_id)
        complete = copy is not None and copy.complete
        return not complete and time.monotonic() >= self._later.get(spec.run_id, 0.0)

    def _has_begun(self, spec: RunSpec) -> bool:
        folder = self.ledger.folder(spec.run_id)
        begun = {path.name for path in (folder.metrics, folder.result, folder.failure)}
        return bool(begun & set(names(folder.path)))

    @property
    def copied(self) -> int:
        """How many runs are known to have a copy. One that has not begun has none."""
        return len(self._runs)

    def report(self, spec: RunSpec, folder: Path) -> None:
        """Keep the report files of `folder` with the parent run of `spec`'s sweep."""
        parent = self.copies.parent(spec)
        self._arrive()
        self.client.log_artifacts(parent, str(folder), "report")

    def _arrive(self) -> None:
        """Before a file is sent: whoever has the folder under another path may have been here."""
        if self._file is not None:
            self._file.arrive()

    def settle(self) -> None:
        """What MLflow shows as running while nobody works on it becomes KILLED, FAILED or FINISHED.

        Of all sweeps into this ledger, the one at work or not: a killed one cannot say it itself.
        """
        query = f"attributes.status = 'RUNNING' and tags.`{RUN_ID}` != ''"
        trouble = self._trouble()
        for run in list(self.copies.search(query)):  # all pages, before any of them changes
            run_id = run.data.tags[RUN_ID]
            if self.copies.is_ours(run):
                with suppress(NotOurTurn), trouble.of(run_id):
                    self._settle(run, self.ledger.folder(run_id))
        self.copies.turn.end()
        trouble.check()

    def _settle(self, run: Any, folder: RunFolder) -> None:
        with reading():
            state = folder.state()
            result = folder.read_result() if state is State.FINISHED else None
        if state is State.RUNNING:
            return
        if result is None or SUPERSEDED in run.data.tags:
            status = "FAILED" if state is State.FAILED else "KILLED"
            self.client.set_terminated(run.info.run_id, status)
        elif SYNCED in run.data.tags:  # told to be running by who had looked a moment before
            self._finished(run.info.run_id, result)
        else:  # by a sweep that could not copy it
            with reading():
                spec = self.ledger.spec(folder.run_id)
            self._sync_run(spec, folder)

    def links(self, specs: Sequence[RunSpec]) -> dict[str, str]:
        """run_id -> address of its page, in a server's UI or in the one of `tcclip ui`."""
        base = redact_url(self.uri if self.uri.startswith("http") else LOCAL_UI).rstrip("/")
        wanted, found = {spec.run_id for spec in specs}, {}
        for run in self.copies.search(f"tags.`{RUN_ID}` != ''"):
            run_id, where = run.data.tags[RUN_ID], run.info
            mine = self.copies.is_ours(run) and SUPERSEDED not in run.data.tags
            if run_id in wanted and mine:
                found[run_id] = f"{base}/#/experiments/{where.experiment_id}/runs/{where.run_id}"
        return found

    def _sync_run(self, spec: RunSpec, folder: RunFolder) -> None:
        try:
            copy, records = self._look(spec, folder)
            if copy.complete:  # by another process
                return
            with reading():
                # Asked first: a run that ends while its records are sent has more, for next time.
                state = folder.state()
                result = folder.read_result() if state is State.FINISHED else None
                metrics = [metric for record in records for metric in _metrics(record)]
                sent = {record["kind"]: int(record["step"]) for record in records}
            self._log(copy.mlflow_id, metrics)
            copy.sent.update(sent)
            if result is not None:
                self._finish(copy, folder, result)
            else:
                self._tell(copy, folder, state)
        except Exception:
            # Nobody knows how much of it arrived: next time the tracker is asked.
            self._runs.pop(spec.run_id, None)
            raise

    def _look(self, spec: RunSpec, folder: RunFolder) -> tuple[_Mirrored, list[dict[str, Any]]]:
        """What is known of the run's copy, and the records it lacks."""
        copy = self._runs.get(spec.run_id)
        with reading():
            records = [] if copy is None else list(_records(folder, copy))
            again = copy is not None and _begun_again(folder, copy, records)
        if copy is None or again:
            copy = self._runs[spec.run_id] = self._open(spec, folder)
            with reading():
                records = [] if copy.complete else list(_records(folder, copy))
        return copy, records

    def _tell(self, copy: _Mirrored, folder: RunFolder, state: State) -> None:
        """The state of a run that is not finished, once: a run that goes on is RUNNING again."""
        failure = folder.read_failure() if state is State.FAILED else None
        status = {State.RUNNING: "RUNNING", State.FAILED: "FAILED"}.get(state, "KILLED")
        if copy.told == (status, failure):
            return
        if failure is not None:
            self.client.set_tag(copy.mlflow_id, ERROR, failure.message[:TAG_LENGTH])
            copy.error = True
        else:
            self._clear_error(copy)
        if status == "RUNNING":
            self.client.update_run(copy.mlflow_id, status)
        else:
            ended = None if failure is None else _milliseconds(failure.time)
            self.client.set_terminated(copy.mlflow_id, status, ended)
        if failure is not None:  # last: a store may refuse a file
            self._keep(copy, folder.failure, folder.log)
        copy.told = status, failure

    def _clear_error(self, copy: _Mirrored) -> None:
        """The error of an earlier attempt is not that of the one at work."""
        if copy.error:
            from mlflow.exceptions import MlflowException

            try:
                self.client.delete_tag(copy.mlflow_id, ERROR)
            except MlflowException as error:
                if ERROR in self.client.get_run(copy.mlflow_id).data.tags:
                    raise
                log.debug("its tag was removed by another process: %s", error)
            copy.error = False

    def _keep(self, copy: _Mirrored, *files: Location) -> None:
        self._arrive()
        for path in files:
            if exists(path):
                with local_copy(path) as local:
                    self.client.log_artifact(copy.mlflow_id, str(local))

    def _finish(self, copy: _Mirrored, folder: RunFolder, result: Result) -> None:
        self._log(copy.mlflow_id, list(_final_metrics(result)))
        self._clear_error(copy)
        provenance = result.provenance
        self.client.set_tag(copy.mlflow_id, "git_commit", provenance.git_commit or "unknown")
        self._log_lists(copy.mlflow_id, provenance.digests)
        self._finished(copy.mlflow_id, result)
        self._keep(copy, folder.result, folder.log)  # last: a store may refuse a file
        with reading():
            digest = History.of(folder).digest
        self.client.set_tag(copy.mlflow_id, SYNCED, digest)
        copy.complete = True

    def _finished(self, mlflow_id: str, result: Result) -> None:
        self.client.set_terminated(mlflow_id, "FINISHED", _milliseconds(result.provenance.finished))

    def _log_lists(self, mlflow_id: str, digests: dict[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        inputs = [
            DatasetInput(Dataset(name, digest[:36], "annotation list", name))
            for name, digest in digests.items()
            if name.endswith(".txt")
        ]
        self.client.log_inputs(mlflow_id, datasets=inputs)

    def _open(self, spec: RunSpec, folder: RunFolder) -> _Mirrored:
        """Find the copy of a run, or make it, and what of the run is there already."""
        run, first, made = self.copies.of(spec, folder)
        mlflow_id, tags = run.info.run_id, run.data.tags
        if SYNCED in tags:
            return _Mirrored(mlflow_id, first, {}, complete=True)
        if len(run.data.params) < len(parameters(spec)):  # new, or left in the middle of it
            self._log_parameters(mlflow_id, spec)
        # The last metric of a record is there only if the record came whole. A resumed run
        # writes its steps anew, with other times: sent again, they would stand there twice.
        sent = {
            kind: max(
                (point.step for point in self.client.get_metric_history(mlflow_id, name)),
                default=0,
            )
            for kind, name in (("step", "lr_fast"), ("epoch", "epoch/train_seconds"))
            if not made
        }
        return _Mirrored(mlflow_id, first, sent, error=ERROR in tags)

    def _log_parameters(self, mlflow_id: str, spec: RunSpec) -> None:
        from mlflow.entities import Param

        # Before the parameters: where they are all there, this is, too.
        text = json.dumps(spec.model_dump(mode="json"), indent=1)
        self._arrive()
        self.client.log_text(mlflow_id, text, "spec.json")
        params = [Param(name, value) for name, value in parameters(spec).items()]
        for start in range(0, len(params), BATCH_PARAMS):
            self.client.log_batch(mlflow_id, params=params[start : start + BATCH_PARAMS])

    def _log(self, mlflow_id: str, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), BATCH_METRICS):
            self.client.log_batch(mlflow_id, metrics=metrics[start : start + BATCH_METRICS])


def _begun_again(folder: RunFolder, copy: _Mirrored, records: list[dict[str, Any]]) -> bool:
    """Whether another attempt may have written anew what was sent, or the run is another one."""
    if not records:
        return bool(copy.first) and stamp(folder.metrics) is None
    return any(one["kind"] == "start" for one in records) or begun(folder) != copy.first


def _records(folder: RunFolder, copy: _Mirrored) -> Iterator[dict[str, Any]]:
    """Whole metrics records not sent yet, and all starts of attempts.

    A file that shrank, or has another line where the last one ended, was cut back by a resumed
    run, or is another file: it is read from its beginning.
    """
    now = stamp(folder.metrics)
    if now is None or now == copy.seen:
        return
    start = copy.offset - len(copy.last)
    data = read_from(folder.metrics, start) if now.size > start else b""
    if data.startswith(copy.last) and now.size >= copy.offset:
        data = data[len(copy.last) :]
    else:
        copy.offset, data = 0, read_from(folder.metrics, 0)
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # being written just now; next time
        copy.offset, copy.last = copy.offset + len(line), line
        try:
            record = json.loads(line)
        except ValueError:
            log.warning("%s: a damaged line is left out", folder.metrics)
            continue
        if record["kind"] == "start" or record["step"] > copy.sent.get(record["kind"], 0):
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


def _milliseconds(time: str) -> int:
    """ISO 8601 as milliseconds since the epoch."""
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def _final_metrics(result: Result) -> Iterator[Any]:
    from mlflow.entities import Metric

    when = _milliseconds(result.provenance.finished)
    for one in result.measurements:
        name = (
            f"final/{one.suite}/{one.split}/{one.metric}/{one.checkpoint}-{one.weights}-{one.views}"
        )
        yield Metric(name, one.value, when, 0)
