"""Which MLflow run belongs to a run folder: found by its tags, or created."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.errors import StorageError
from experiments.grid.spec import RunSpec
from experiments.store.files import create_text
from results.reading.location import Location, read_bytes
from results.reading.run_folder import RunFolder

#: Tags of a run's copy: the run's id, the output folder's id and path, the sha256 of the result
#: that was copied, the message of the last failure.
RUN_ID, OUTPUT_ID, OUTPUT = "tcclip.run_id", "tcclip.output_id", "tcclip.output"
SYNCED, ERROR = "tcclip.synced", "tcclip.error"
#: Tag of a run's copy: its method, data set and point; what differs in its seed alone is one.
METHOD = "tcclip.method"
#: Tag with the name of the row a run belongs to, where it has one.
NAME = "tcclip.name"
#: The file in an output folder that holds its id.
OUTPUT_FILE = "mlflow.json"
#: Tag of the parent run of a sweep's runs.
PARENT = "tcclip.sweep"
#: MLflow's own limits.
PARAM_LENGTH, TAG_LENGTH, MOST = 6000, 5000, 50_000


def result_digest(folder: RunFolder) -> str:
    """The sha256 of the run's result; "" while there is none."""
    data = read_bytes(folder.result)
    return "" if data is None else hashlib.sha256(data).hexdigest()


@dataclass
class MlflowRuns:
    """The MLflow runs of one output folder.

    `artifacts`: the URI where new experiments keep theirs; None leaves it to the server.
    """

    client: Any
    out: Location
    artifacts: str | None
    _parents: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = str(self.out.resolve() if isinstance(self.out, Path) else self.out)[:TAG_LENGTH]
        # A path is no id, since folders on two machines may have the same.
        file = self.out / OUTPUT_FILE
        with suppress(StorageError):  # where nothing can be written the id is the path's
            if read_bytes(file) is None:
                create_text(file, json.dumps({"id": uuid.uuid4().hex}))
        self._id = hashlib.sha256(read_bytes(file) or str(self.out).encode()).hexdigest()

    def run_of(self, spec: RunSpec, folder: RunFolder, start: int | None) -> Any:
        """The MLflow run of a run folder whose first record is of the time `start`, in epoch
        milliseconds. The copy of what a rerun deleted is deleted."""

        def current(run: Any) -> bool:
            same_start = start in (None, run.info.start_time)
            return same_start and run.data.tags.get(SYNCED) in (None, result_digest(folder))

        row = folder.read_name()
        method = _method(spec, row)
        # What differs comes first: the UI cuts names, and shows a method's seeds together.
        name = f"seed {spec.key.seed}, {method}"
        tags = {RUN_ID: spec.run_id, METHOD: method, "mlflow.parentRunId": self.parent(spec)}
        run = self._find_or_create(spec, RUN_ID, name, tags, current, start)
        # The folder may have been moved, its row named, the copy made by an earlier version.
        now = {OUTPUT: self.path, METHOD: method, "mlflow.runName": name}
        now |= {NAME: row} if row is not None else {}
        for tag, value in now.items():
            if run.data.tags.get(tag) != value:
                self.client.set_tag(run.info.run_id, tag, value)
        return run

    def parent(self, spec: RunSpec) -> str:
        """The id of the MLflow run that stands for the sweeps of a protocol in this folder."""
        name = _experiment_name(spec)
        if name not in self._parents:
            run = self._find_or_create(spec, PARENT, f"sweep {name}", {PARENT: name})
            self.client.set_terminated(run.info.run_id, "FINISHED")
            self._parents[name] = run.info.run_id
        return self._parents[name]

    def delete_parents(self, mlflow_ids: Collection[str]) -> None:
        """Delete parent runs that have no run any more."""
        for one in mlflow_ids:
            self.client.delete_run(one)
        self._parents.clear()

    def _find_or_create(
        self,
        spec: RunSpec,
        tag: str,
        name: str,
        tags: dict[str, str],
        current: Callable[[Any], bool] = lambda run: True,
        start: int | None = None,
    ) -> Any:
        """This folder's one MLflow run with the `tag` of `tags` that is `current`; others go.

        Two processes that create one each at once, or a call that MLflow's client repeats, leave
        several: every process keeps the same one.
        """
        experiment = self._experiment(spec)
        this = f"tags.`{tag}` = '{tags[tag]}'"
        ours = self.search(this)
        # The result is read after the search: what a copy says was so in the folder before.
        if not any(current(run) for run in ours):
            tags = {OUTPUT_ID: self._id, OUTPUT: self.path, **tags}
            self.client.create_run(experiment, start_time=start, run_name=name, tags=tags)
            ours = self.search(this)
        first, *others = sorted(
            ours, key=lambda run: (not current(run), SYNCED not in run.data.tags, run.info.run_id)
        )
        for other in others:
            self.delete(other)
        return first

    def delete(self, run: Any) -> None:
        """Delete an MLflow run and the models that it made."""
        for one in models_of(self.client, run):
            self.client.delete_logged_model(one.model_id)
        self.client.delete_run(run.info.run_id)

    def all(self) -> list[Any]:
        """The MLflow runs of run folders, whatever their state."""
        return [run for run in self.search() if RUN_ID in run.data.tags]

    def search(self, *conditions: str) -> list[Any]:
        """This folder's MLflow runs, parents included, in all experiments."""
        experiments = self.client.search_experiments(max_results=MOST)
        ids = [experiment.experiment_id for experiment in experiments]
        query = " and ".join((f"tags.`{OUTPUT_ID}` = '{self._id}'", *conditions))
        return list(self.client.search_runs(ids, query, max_results=MOST))

    def _experiment(self, spec: RunSpec) -> str:
        """The id of the MLflow experiment a run belongs to; a deleted one is restored."""
        from mlflow.exceptions import MlflowException

        name = _experiment_name(spec)
        if self.client.get_experiment_by_name(name) is None:
            # The UI's training view, not the one for language model applications.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            with suppress(MlflowException):  # another process creates it at the same moment
                self.client.create_experiment(name, self.artifacts, tags=kind)
        found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def models_of(client: Any, run: Any) -> list[Any]:
    """The models that an MLflow run made."""
    query = f"source_run_id = '{run.info.run_id}'"
    return list(client.search_logged_models([run.info.experiment_id], filter_string=query))


def _method(spec: RunSpec, name: str | None) -> str:
    """`tc_clip, hmdb51, 4 shots, train.lr=1e-5`; a row's name takes the place of model and
    settings."""
    key = spec.key
    model = key.model if key.variant == "base" else f"{key.model} ({key.variant})"
    parts = [name or model, key.dataset]
    parts += [f"{key.shots} shots"] if key.shots is not None else []
    parts += [f"base split {key.base_split}"] if key.base_split is not None else []
    parts += [key.origin] if key.origin != "trained" else []
    return ", ".join([*parts, *(() if name else key.overrides)])[:TAG_LENGTH]


def _experiment_name(spec: RunSpec) -> str:
    return f"{spec.key.protocol}{' (demo)' if spec.key.demo else ''}"
