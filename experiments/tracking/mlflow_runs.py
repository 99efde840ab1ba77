"""MLflow's runs that stand for run folders: found by their tags, made once, told apart.

A copy belongs to one history of a run: RUN_ID, and BEGUN, the time of the first record in its
metrics. So the same run in another output folder has a copy of its own, and one that is run again
does not go on in the old one.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import protocols
from experiments.grid.overrides import flat
from experiments.grid.spec import RunSpec
from experiments.tracking.lock import Turn
from experiments.tracking.sync_errors import reading
from results.reading.holder import read_holder
from results.reading.location import Location, read_bytes, read_from
from results.reading.metrics_log import epoch_seconds
from results.reading.run_folder import RunFolder

#: Tags. SYNCED holds the digest of the result that was copied, OUTPUT the output folder.
RUN_ID, SYNCED, PARENT = "tcclip.run_id", "tcclip.synced", "tcclip.sweep"
SUPERSEDED, ERROR = "tcclip.superseded", "tcclip.error"
OUTPUT, BEGUN = "tcclip.output", "tcclip.begun"
#: MLflow's own limits.
PARAM_LENGTH, TAG_LENGTH, PAGE = 6000, 5000, 1000
#: One experiment a protocol, demo apart.
EXPERIMENTS = tuple(f"{name}{demo}" for name in protocols.PROTOCOLS for demo in ("", " (demo)"))
#: The first record of a metrics file is shorter.
_FIRST_RECORD = 4096


def begun(folder: RunFolder) -> str:
    """When the run's first record was written, in epoch seconds; "" while there is none.

    ValueError, LookupError or TypeError if the record cannot be understood.
    """
    try:
        line, end, _ = read_from(folder.metrics, 0, _FIRST_RECORD).partition(b"\n")
    except FileNotFoundError:
        return ""
    if not end:
        return ""
    try:
        record = json.loads(line)
    except ValueError:
        return ""  # torn: the records after it count
    time = record["time"]
    epoch_seconds(time)
    return str(time)


@dataclass(frozen=True)
class History:
    """What tells a run from the same one run again: when it began ("" while it has not), and the
    sha256 of its result ("" without one)."""

    begun: str
    digest: str

    @classmethod
    def of(cls, folder: RunFolder) -> History:
        """As the files say now."""
        data = read_bytes(folder.result)
        return cls(begun(folder), "" if data is None else hashlib.sha256(data).hexdigest())


@dataclass
class Copies:
    """The copies of one output folder's runs in a tracker.

    `artifacts`: where new experiments keep theirs; None leaves it to the server. `commit`: of the
    code that runs, a tag of copies that are made from now on.
    """

    client: Any
    out: Location
    artifacts: str | None
    commit: str | None = None
    turn: Turn = field(init=False)
    #: By OUTPUT tag: whether that is this output folder.
    _known: dict[str, bool] = field(default_factory=dict)
    _parents: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turn = Turn(self.out)

    def forget(self) -> None:
        """What was known of the tracker does not hold any more."""
        self._parents.clear()

    def of(self, spec: RunSpec, folder: RunFolder) -> tuple[Any, str, bool]:
        """The MLflow run of the history in `folder`: with when that began, and if it is new.

        NotOurTurn if there is something to make or to mark, and another process is at it. The copy
        of an earlier history, or of another result, is kept and marked as superseded.
        """
        experiment = self.experiment(spec)
        query = f"tags.`{RUN_ID}` = '{spec.run_id}'"

        def look() -> tuple[list[Any], list[Any], History]:
            found = self.client.search_runs([experiment], query, max_results=PAGE)
            # The folder after the tracker: what a copy says was so in the folder before.
            with reading():
                now = History.of(folder)
            active = [run for run in found if SUPERSEDED not in run.data.tags]
            ours = [run for run in active if self._same(run, now, folder)]
            earlier = [run for run in active if run not in ours and self.is_ours(run)]
            return ours, earlier, now

        ours, earlier, now = look()
        if len(ours) != 1 or earlier:
            self.turn.take()
            ours, earlier, now = look()  # another process may have been at it a moment ago
        for run in earlier:
            # Run again since: the numbers that were shown stay, marked, and a new run begins.
            self.client.set_tag(run.info.run_id, SUPERSEDED, "true")
        made = not ours
        if made:
            tags = {**_tags(spec), OUTPUT: self._output, BEGUN: now.begun}
            if self.commit is not None:
                tags["git_commit"] = self.commit
            tags["mlflow.parentRunId"] = self.parent(spec)
            start = int(float(now.begun) * 1000) if now.begun else None
            new = self.client.create_run(
                experiment, start_time=start, run_name=spec.run_id, tags=tags
            )
            ours = look()[0] or [new]
        run = self._only(ours)
        for tag, value in ((OUTPUT, self._output), (BEGUN, now.begun)):
            if run.data.tags.get(tag) != value:  # begun since, or the folder was moved
                self.client.set_tag(run.info.run_id, tag, value)
        return run, now.begun, made

    def is_ours(self, run: Any) -> bool:
        """Whether a copy was made from this output folder, under whatever name."""
        output = run.data.tags.get(OUTPUT, self._output)
        if output not in self._known:
            self._known[output] = self._is_here(output)
        return self._known[output]

    def _is_here(self, output: str) -> bool:
        if output == self._output:
            return True
        try:
            return isinstance(self.out, Path) and Path(output).samefile(self.out)
        except OSError:  # one of them is not there
            return False

    def parent(self, spec: RunSpec) -> str:
        """The run that stands for the sweep: one a protocol, demo apart."""
        name = _sweep_name(spec)
        if name not in self._parents:
            experiment = self.experiment(spec)

            def there() -> list[Any]:
                return list(self.client.search_runs([experiment], f"tags.`{PARENT}` = '{name}'"))

            found = there()
            if not found:
                run = self.client.create_run(
                    experiment, run_name=f"sweep {name}", tags={PARENT: name, OUTPUT: self._output}
                )
                self.client.set_terminated(run.info.run_id, "FINISHED")
                found = there() or [run]
                self._only([one for one in found if one.data.tags.get(OUTPUT) == self._output])
            # Two output folders may make one each at once; from then on all take the same.
            self._parents[name] = min(found, key=_worth).info.run_id
        return self._parents[name]

    def experiment(self, spec: RunSpec) -> str:
        """The id of the experiment a run belongs to; brought back if it was deleted."""
        name = _sweep_name(spec)
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return self._made(name)
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _made(self, name: str) -> str:
        from mlflow.exceptions import RESOURCE_ALREADY_EXISTS, ErrorCode, MlflowException

        # The UI's training view, not the one for language model applications.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return str(
                self.client.create_experiment(name, artifact_location=self.artifacts, tags=kind)
            )
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            return str(self.client.get_experiment_by_name(name).experiment_id)  # by another process

    def search(self, query: str) -> Iterator[Any]:
        """The runs of our experiments that a query finds, however many."""
        named = (self.client.get_experiment_by_name(name) for name in EXPERIMENTS)
        ids = [experiment.experiment_id for experiment in named if experiment is not None]
        token = None
        while ids:
            page = self.client.search_runs(ids, query, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    @property
    def _output(self) -> str:
        # One name for a folder, however it was given.
        out = self.out.resolve() if isinstance(self.out, Path) else self.out
        return str(out)[:TAG_LENGTH]

    def _same(self, run: Any, now: History, folder: RunFolder) -> bool:
        """Whether `run` is a copy of this very history."""
        tags = run.data.tags
        known, same_result = tags.get(BEGUN, ""), tags.get(SYNCED, now.digest) == now.digest
        if self.is_ours(run):
            return same_result and known in ("", now.begun)
        # Of a folder that was moved here? One that is still there as well keeps its own, and so
        # does one that may be on another machine: in a store, or at work there.
        there = Path(tags[OUTPUT], "runs", folder.run_id)
        if "://" in tags[OUTPUT] or (run.info.status == "RUNNING" and _elsewhere(folder)):
            return False
        return bool(now.begun) and known == now.begun and same_result and not there.exists()

    def _only(self, found: list[Any]) -> Any:
        """The first of copies that this folder's turn made; the others go, since they were made by
        a call that was repeated because its answer came late."""
        first, *others = sorted(found, key=_worth)
        for other in others:
            self.client.delete_run(other.info.run_id)
        return first


def _elsewhere(folder: RunFolder) -> bool:
    """Whether the last who held the run did so on another machine (one by its host's name: after
    a reboot it is the same)."""
    with reading():
        holder = read_holder(folder.path)
    return holder is not None and holder.host != socket.gethostname()


def _worth(run: Any) -> tuple[bool, int, str]:
    """Of several copies the first is kept: one that is complete, or the oldest."""
    return SYNCED not in run.data.tags, run.info.start_time, run.info.run_id


def parameters(spec: RunSpec) -> dict[str, str]:
    """The settings of a run as MLflow's parameters."""
    chosen = spec.model_dump(mode="json", include={"key", "model", "train", "augment"})
    return {name: str(value)[:PARAM_LENGTH] for name, value in flat(chosen)}


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
