"""Run folders: what state a run is in, and who may work on it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.errors import StorageError, UserError
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.store import lease as leases
from experiments.store import ledger as ledgers
from experiments.store.attempt_records import record_failure
from experiments.store.files import write_text, write_whole
from experiments.store.lease import held
from experiments.store.ledger import Ledger
from results.reading.location import exists, names
from results.reading.run_folder import State
from tests.builders import make_result


@pytest.fixture
def spec() -> RunSpec:
    return expand(Grid("zero_shot", demo=True))[0]


def test_states_follow_the_files(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    folder = ledger.folder(spec.run_id)
    assert folder.state() is State.PLANNED
    ledger.add([spec])
    assert folder.state() is State.PLANNED
    with held(folder.path):
        assert folder.state() is State.RUNNING
    folder.metrics.write_text("{}\n")
    assert folder.state() is State.STALE
    record_failure(folder, "Boom", "boom", "trace")
    assert folder.state() is State.FAILED
    result = make_result(spec).model_dump_json()
    folder.result.write_text(result)
    assert folder.state() is State.FINISHED
    folder.result.write_text(result[: len(result) // 2])
    assert folder.state() is State.FAILED, "a result cut in half is no result"


def test_a_spec_reads_back_as_the_same_run(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    assert ledger.spec(spec.run_id) == spec
    assert ledger.spec(spec.run_id).run_id == spec.run_id


def test_attempts_are_counted(tmp_path: Path, spec: RunSpec) -> None:
    folder = Ledger(tmp_path).folder(spec.run_id)
    assert [record_failure(folder, "E", "m", "t").attempt for _ in range(3)] == [1, 2, 3]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"cannot write .*file: No space left on device"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path, spec: RunSpec) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="choose another folder with --out"):
        Ledger(tmp_path).add([spec])


@pytest.mark.parametrize("beats", [True, False])
def test_a_run_elsewhere_is_watched_before_it_is_deleted(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch, beats: bool
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.02)
    monkeypatch.setattr(leases, "PATIENCE", 0.2)
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    path = ledger.folder(spec.run_id).path
    # Its clock is two hours behind: at one look it seems dead.
    holder = {"owner": "o", "number": 1, "host": "node7", "place": "p", "pid": 1, "started": 0.0}
    text = json.dumps({**holder, "beat": 0, "heartbeat": time.time() - 7200})
    write_text(path / "lease-000001.json", text)
    looked: list[float] = []

    def sleep(seconds: float) -> None:
        looked.append(seconds)
        if beats and len(looked) == 3:
            write_text(path / "lease-000001.json", text.replace('"beat": 0', '"beat": 1'))
        real(seconds)

    real = time.sleep
    monkeypatch.setattr(leases.time, "sleep", sleep)
    if beats:
        with pytest.raises(StorageError, match="is held by node7 pid 1; stop it before a rerun"):
            ledger.forget([spec.run_id])
        assert exists(ledger.folder(spec.run_id).spec)
    else:
        ledger.forget([spec.run_id])
        assert not exists(path)
    assert len(looked) >= 3


def test_a_running_run_is_not_deleted(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    with (
        held(ledger.folder(spec.run_id).path),
        pytest.raises(StorageError, match=r"is held by .*stop it before a rerun"),
    ):
        ledger.forget([spec.run_id])
    ledger.forget([spec.run_id])
    assert not ledger.folder(spec.run_id).path.exists()


def test_of_several_runs_none_is_deleted_while_one_is_at_work(tmp_path: Path) -> None:
    specs = expand(Grid("zero_shot", demo=True, seeds=(0, 1, 2)))
    ledger = Ledger(tmp_path)
    ledger.add(specs)
    with (
        held(ledger.folder(specs[2].run_id).path),
        pytest.raises(StorageError, match=f"{specs[2].run_id} is held by"),
    ):
        ledger.forget([spec.run_id for spec in specs])
    assert all(exists(ledger.folder(spec.run_id).spec) for spec in specs)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("writes", range(6))
def test_a_deletion_cut_short_leaves_no_finished_run_and_nothing_to_go_on_from(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    folder = ledger.folder(spec.run_id)
    Path(folder.result).write_text(make_result(spec).model_dump_json())
    for path in (folder.metrics, folder.last, folder.best_of(1)):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("{}")
    done: list[Path] = []

    def until(real: Callable[[Path], None]) -> Callable[[Path], None]:
        def remove(path: Path) -> None:
            if len(done) == writes:
                raise Killed
            done.append(path)
            real(path)

        return remove

    monkeypatch.setattr(ledgers, "remove", until(ledgers.remove))
    monkeypatch.setattr(ledgers, "remove_all", until(ledgers.remove_all))
    try:
        ledger.forget([spec.run_id])
    except Killed:
        assert len(done) == writes
    if writes == 0:
        assert folder.state() is State.FINISHED, "nothing was deleted yet"
        return
    assert folder.read_result() is None
    assert exists(folder.best_of(1)) or not exists(folder.last)


def test_a_result_of_a_newer_version_is_not_made_again(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    newer = {**make_result(spec).model_dump(mode="json"), "schema_version": 2, "more": 1}
    Path(ledger.folder(spec.run_id).result).write_text(json.dumps(newer))
    for ask in (lambda: ledger.states([spec]), ledger.folder(spec.run_id).read_result):
        with pytest.raises(UserError, match=r"result.json has schema version 2.*update tcclip"):
            ask()


def test_what_a_kill_after_the_result_leaves_is_cleared(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    ledger.add([spec])
    folder = ledger.folder(spec.run_id)
    Path(folder.result).write_text(make_result(spec).model_dump_json())
    record_failure(folder, "Boom", "boom", "trace")
    write_text(folder.pause_request, "")
    with held(folder.path):
        ledger.repair([spec])
        assert exists(folder.failure), "whoever holds it is about to do that"
    ledger.repair([spec])
    assert names(folder.path) == ["result.json", "spec.json"]


@pytest.mark.parametrize("left", ["", '{"run_id": "zero', None])
def test_a_spec_that_was_cut_short_or_lost_is_written_anew(
    tmp_path: Path, spec: RunSpec, left: str | None
) -> None:
    ledger = Ledger(tmp_path)
    path = Path(ledger.folder(spec.run_id).spec)
    for write in (lambda: ledger.add([spec]), lambda: ledger.repair([spec])):
        ledger.add([spec])
        whole = path.read_bytes()
        path.unlink() if left is None else path.write_text(left)
        write()
        assert path.read_bytes() == whole
    stamp = path.stat()
    ledger.add([spec])
    assert path.stat() == stamp, "a whole one is left as it is"
