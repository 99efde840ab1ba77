"""The mirror where something is wrong with one run, or two processes meet: all else is copied."""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from experiments.errors import StorageError, UserError
from experiments.grid.spec import RunSpec
from experiments.store import lease
from experiments.store.attempt_records import record_failure
from experiments.store.lease import held
from experiments.store.ledger import Ledger
from experiments.tracking import Incomplete, Mirror, StillCopying, default_uri, ui
from experiments.tracking.sqlite_file import sqlite_uri
from experiments.tracking.sync_thread import Follower
from results.reading.run_folder import RunFolder
from tests.experiments.sweeping import small_specs
from tests.experiments.tracking.mirrored import children, has_all, stopped_short

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and its dependencies' own

(OTHER,) = small_specs(train__lr=1e-4)


def line(kind: str, step: int, time: Any, **more: float) -> str:
    return json.dumps({"kind": kind, "step": step, "time": time, **more}) + "\n"


def begin(out: Path, spec: RunSpec, steps: int = 5, at: float = 1000.0) -> RunFolder:
    """A run folder with its first steps."""
    Ledger(out).add([spec])
    folder = Ledger(out).folder(spec.run_id)
    rows = [
        line("step", step, at + step, loss=1.0, lr=0.1, lr_fast=0.1) for step in range(1, steps + 1)
    ]
    Path(folder.metrics).write_text(line("start", 0, at) + "".join(rows))
    return folder


def states(mirror: Mirror, spec: RunSpec) -> list[tuple[str, bool]]:
    """(status, whether superseded) of a run's copies."""
    return sorted(
        (run.info.status, "tcclip.superseded" in run.data.tags) for run in children(mirror, spec)
    )


# ---- One run's trouble ----


@pytest.mark.parametrize(
    ("left", "why"), [(None, "it is missing"), ('{"run_', "it cannot be understood: ")]
)
def test_a_finished_run_whose_spec_is_lost_is_named(
    again: tuple[Path, RunSpec], left: str | None, why: str
) -> None:
    out, spec = again
    path = Path(Ledger(out).folder(spec.run_id).spec)
    path.unlink() if left is None else path.write_text(left)
    begin(out, OTHER)
    with pytest.raises(UserError, match=rf"spec.json of {spec.run_id}: {why}.*writes it anew"):
        ui.sync(out)
    assert len(children(Mirror(Ledger(out), default_uri(out)), OTHER)) == 1, "all others are there"
    Ledger(out).repair([spec])  # as a sweep does
    assert ui.sync(out) == (2, 0)


@pytest.fixture
def two(again: tuple[Path, RunSpec]) -> Iterator[tuple[Path, RunSpec, RunFolder]]:
    """A finished run, and before it in every pass one that was killed, shown as running."""
    out, spec = again
    folder = begin(out, OTHER)
    with held(folder.path):
        Mirror(Ledger(out), default_uri(out)).sync([OTHER])
    yield out, spec, folder


def test_a_file_that_the_store_refuses_holds_nothing_else_back(
    two: tuple[Path, RunSpec, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec, folder = two
    record_failure(folder, "Boom", "Boom", "trace")
    Path(folder.log).write_text("long")
    keep = MlflowClient.log_artifact

    def refuse(self: MlflowClient, mlflow_id: str, path: str, *rest: Any) -> None:
        if path.endswith("run.log") and Path(path).read_text() == "long":
            raise OSError("413 too large")
        keep(self, mlflow_id, path, *rest)

    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    told = f"did not take all(?s:.*){OTHER.run_id}: OSError: 413"
    for _ in range(2):
        mirror = Mirror(Ledger(out), default_uri(out))
        with pytest.raises(Incomplete, match=told):
            mirror.sync([OTHER, spec])
    assert states(mirror, OTHER) == [("FAILED", False)]
    has_all(mirror, spec)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("result.json", '{"schema_version": 999}', "schema version 999"),
        ("metrics.jsonl", '{"kind": "start", "step": 0, "time": "x"}\n', "'x' is no time"),
        ("metrics.jsonl", '{"kind": "start", "step": 0}\n', "KeyError: 'time'"),
    ],
)
def test_files_that_cannot_be_understood_hold_nothing_else_back(
    two: tuple[Path, RunSpec, RunFolder], name: str, text: str, told: str
) -> None:
    out, spec, folder = two
    (Path(folder.path) / name).write_text(text)
    mirror = Mirror(Ledger(out), default_uri(out))
    with pytest.raises(Incomplete, match=f"understood(?s:.*){OTHER.run_id}: .*{told}"):
        mirror.sync([OTHER, spec])
    has_all(mirror, spec)
    with suppress(Incomplete):
        mirror.settle()


def test_a_run_that_cannot_be_settled_holds_no_other_back(
    two: tuple[Path, RunSpec, RunFolder],
) -> None:
    out, spec, folder = two
    stopped_short(out, spec)
    with held(Ledger(out).folder(spec.run_id).path):
        Mirror(Ledger(out), default_uri(out)).sync([spec])
    Path(folder.result).write_text('{"schema_version": 999}')
    mirror = Mirror(Ledger(out), default_uri(out))
    with pytest.raises(Incomplete, match=OTHER.run_id):
        mirror.settle()
    assert states(mirror, spec) == [("KILLED", False)]


def test_what_cannot_be_read_just_now_is_not_to_be_run_again(
    two: tuple[Path, RunSpec, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec, folder = two
    look = RunFolder.state

    def state(self: RunFolder) -> Any:
        if self == folder:
            raise StorageError("cannot reach s3://bucket: timeout")
        return look(self)

    monkeypatch.setattr(RunFolder, "state", state)
    with pytest.raises(UserError, match="could not be read just now; try again") as raised:
        ui.sync(out)
    assert "--rerun" not in str(raised.value)
    has_all(Mirror(Ledger(out), default_uri(out)), spec)


def test_every_kind_of_trouble_is_said_once(
    two: tuple[Path, RunSpec, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec, folder = two
    Path(folder.metrics).write_text('{"kind": "step"}\n')
    monkeypatch.setattr("experiments.tracking.sync_thread.SYNC_SECONDS", 0.1)
    said: list[str] = []
    sync, passes = Mirror.sync, [0]

    def once(self: Mirror, *arguments: Any, **named: Any) -> None:
        passes[0] += 1
        if passes[0] > 2:
            raise ConnectionError("down")
        sync(self, *arguments, **named)

    monkeypatch.setattr(Mirror, "sync", once)
    with Follower(Ledger(out), default_uri(out), [OTHER, spec], said.append) as follower:
        while passes[0] < 4:
            follower._stop.wait(0.05)
    runs, down = said
    assert "KeyError: 'time'" in runs and "--sync" in runs
    assert "cannot be written (ConnectionError: down)" in down
    assert follower.gave_up


@pytest.mark.parametrize("uri", ["http://[::1:5000", "postgresql://ann:se[cret@host/db"])
def test_an_address_that_is_none_fails_no_sweep(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    out, spec = again
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    said: list[str] = []
    with Follower(Ledger(out), default_uri(out), [spec], said.append):
        pass
    assert "cannot be written" in said[0] and "se[cret" not in said[0]
    with pytest.raises(UserError, match="cannot be written"):
        ui.sync(out)


def test_what_the_tracker_refuses_is_not_sent_in_every_pass(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again
    mirror, asked = Mirror(Ledger(out), default_uri(out)), list[str]()

    def refuse(run_id: str, *_: Any) -> None:
        asked.append(run_id)
        raise ConnectionError("413")

    with monkeypatch.context() as patch:
        patch.setattr(mirror.client, "log_artifact", refuse)
        for _ in range(6):
            with suppress(Incomplete):
                mirror.sync([spec])
        assert len(asked) == 2
        with pytest.raises(Incomplete, match="413"):
            mirror.sync([spec], wait=0.1)  # the last pass
    mirror.sync([spec], wait=0.1)
    has_all(mirror, spec)


def no_turn(monkeypatch: pytest.MonkeyPatch, cause: OSError) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise StorageError(f"cannot write: {cause.args[-1]}") from cause

    monkeypatch.setattr("experiments.tracking.lock.Lease", refused)


def test_a_store_that_may_only_be_read_is_copied_without_a_turn(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again

    # As s3fs translates AccessDenied: without an error number.
    no_turn(monkeypatch, PermissionError("Access Denied"))
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec], wait=0.1)
    has_all(mirror, spec)


def test_a_turn_that_cannot_be_told_is_not_said_to_be_anothers(
    again: tuple[Path, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = again

    no_turn(monkeypatch, OSError(errno.ENOSPC, "no space left"))
    with pytest.raises(StillCopying, match=r"1 runs are left .*cannot be told: .*no space left"):
        Mirror(Ledger(out), default_uri(out)).sync([spec], wait=0.1)


def test_a_copy_that_was_left_without_its_settings_gets_them(tmp_path: Path) -> None:
    begin(tmp_path, OTHER)
    mirror = Mirror(Ledger(tmp_path), default_uri(tmp_path))
    log_text = mirror.client.log_text

    def down(*_: Any) -> None:
        raise ConnectionError("down")

    mirror.client.log_text = down
    with pytest.raises(Incomplete):
        mirror.sync([OTHER])
    mirror.client.log_text = log_text
    mirror.sync([OTHER])
    (run,) = children(mirror, OTHER)
    assert [one.path for one in mirror.client.list_artifacts(run.info.run_id)] == ["spec.json"]
    assert run.data.params["train.lr"] == "0.0001"


def test_metrics_that_were_written_anew_between_two_looks_are_another_history(
    tmp_path: Path,
) -> None:
    begin(tmp_path, OTHER, steps=5)
    mirror = Mirror(Ledger(tmp_path), default_uri(tmp_path))
    mirror.sync([OTHER])
    begin(tmp_path, OTHER, steps=9, at=5000.0)
    mirror.sync([OTHER])
    old, new = sorted(children(mirror, OTHER), key=lambda run: run.info.start_time)
    assert ("tcclip.superseded" in old.data.tags, "tcclip.superseded" in new.data.tags) == (
        True, False
    )  # fmt: skip
    points = mirror.client.get_metric_history(new.info.run_id, "loss")
    assert [point.step for point in points] == list(range(1, 10))


# ---- Two processes ----


def test_two_that_follow_one_run_both_see_it_go_on(tmp_path: Path) -> None:
    folder = begin(tmp_path, OTHER)
    record_failure(folder, "Boom", "Boom", "trace")
    first, second = (Mirror(Ledger(tmp_path), default_uri(tmp_path)) for _ in range(2))
    first.sync([OTHER])
    second.sync([OTHER])
    with held(folder.path):
        first.sync([OTHER])
        second.sync([OTHER])
    (run,) = children(first, OTHER)
    assert run.info.status == "RUNNING" and "tcclip.error" not in run.data.tags


def test_a_turn_that_could_not_be_taken_whole_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, OTHER)
    mirror = Mirror(Ledger(tmp_path), default_uri(tmp_path))

    def timeout(*_: Any) -> None:
        raise StorageError("the store does not answer just now")

    with monkeypatch.context() as patch:
        patch.setattr(lease.Lease, "_stand_back", timeout)
        mirror.sync([OTHER])
        assert children(mirror, OTHER) == [], "without the turn nothing is made"
    Mirror(Ledger(tmp_path), default_uri(tmp_path)).sync([OTHER], wait=2)
    assert len(children(mirror, OTHER)) == 1


def test_the_turn_is_offered_between_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.tracking.lock.HOLD", 0.0)
    (third,) = small_specs(train__lr=1e-3)
    for spec in (OTHER, third):
        begin(tmp_path, spec)
    mirror, waiting = (Mirror(Ledger(tmp_path), default_uri(tmp_path)) for _ in range(2))
    got = []

    def sleep(_: float) -> None:
        waiting.copies.turn.take()
        got.append(True)
        waiting.copies.turn.end()

    monkeypatch.setattr("experiments.tracking.lock.time.sleep", sleep)
    mirror.sync([OTHER, third])
    assert got
    assert [len(children(mirror, spec)) for spec in (OTHER, third)] == [1, 1]


def test_a_run_copied_whole_while_another_looks_keeps_that_copy(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    folder = Ledger(out).folder(spec.run_id)
    result = Path(folder.result).read_bytes()
    stopped_short(out, spec)
    quick = Mirror(Ledger(out), default_uri(out))
    with held(folder.path):
        quick.sync([spec])
        slow = Mirror(Ledger(out), default_uri(out))
        search, looks = slow.client.search_runs, []

        def late(*arguments: Any, **named: Any) -> Any:
            if not looks:
                Path(folder.result).write_bytes(result)
                quick.sync([spec])
            looks.append(True)
            return search(*arguments, **named)

        slow.client.search_runs = late
        slow.sync([spec])
    has_all(quick, spec)
    assert states(quick, spec) == [("FINISHED", False)]


def test_a_finished_run_that_was_told_to_be_running_is_settled(
    again: tuple[Path, RunSpec],
) -> None:
    out, spec = again
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([spec])
    (run,) = children(mirror, spec)
    mirror.client.update_run(run.info.run_id, "RUNNING")
    Mirror(Ledger(out), default_uri(out)).settle()
    (settled,) = children(mirror, spec)
    assert (settled.info.status, settled.info.end_time) == ("FINISHED", run.info.end_time)


# ---- One folder, several names ----


def test_a_folder_and_a_link_to_it_have_one_copy(tmp_path: Path) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    Ledger(out).add([OTHER])
    record_failure(Ledger(out).folder(OTHER.run_id), "Boom", "Boom", "trace")
    link.symlink_to(out)
    for folder in (out, link, out):
        mirror = Mirror(Ledger(folder), default_uri(folder))
        mirror.sync([OTHER])
    assert states(mirror, OTHER) == [("FAILED", False)]


def test_a_backup_does_not_take_the_copies_of_what_it_was_made_from(
    again: tuple[Path, RunSpec], tmp_path: Path
) -> None:
    out, spec = again
    uri = sqlite_uri(tmp_path / "mlflow.db")
    mirror = Mirror(Ledger(out), uri)
    mirror.sync([spec])
    shutil.copytree(out, tmp_path / "backup")
    Mirror(Ledger(tmp_path / "backup"), uri).sync([spec])
    assert len(children(mirror, spec)) == 2
    assert len(mirror.links([spec])) == 1


def test_a_folder_with_a_space_has_no_other_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "my out"
    begin(out, OTHER)
    mirror = Mirror(Ledger(out), default_uri(out))
    mirror.sync([OTHER])
    assert [path.name for path in tmp_path.iterdir()] == ["my out"]
    assert (out / "mlflow.db").is_file()
