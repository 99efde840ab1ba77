"""Run folders: what state a run is in, and who may work on it."""

import json
from pathlib import Path

import pytest

from experiments.errors import StorageError, UserError
from experiments.grid.plan import Grid, expand
from experiments.grid.spec import RunSpec
from experiments.store.attempt_records import record_failure
from experiments.store.files import write_text, write_whole
from experiments.store.lease import claim
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
    with claim(folder.path):
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
    with pytest.raises(StorageError, match="choose another folder, or free"):
        Ledger(tmp_path).add([spec])


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
    with claim(folder.path):
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


def test_a_name_that_cannot_be_written_is_reported(
    tmp_path: Path, spec: RunSpec, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path)
    folder = ledger.folder(spec.run_id)
    assert isinstance(folder.title, Path)
    folder.title.mkdir(parents=True)
    ledger.name({spec.run_id: "my idea"})
    assert "the name of a row was not written" in caplog.text
    folder.title.rmdir()
    ledger.name({spec.run_id: "my idea"})
    assert folder.read_name() == "my idea"
