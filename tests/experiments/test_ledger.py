"""Run folders: what state a run is in, and who may work on it."""

import json
import time
from pathlib import Path

import pytest

from experiments import lease as leases
from experiments.errors import OutputUnusable
from experiments.files import exists, write_text, write_whole
from experiments.lease import held
from experiments.ledger import Ledger, State
from experiments.plan import Grid, expand
from experiments.spec import RunSpec
from tests.builders import make_result


@pytest.fixture
def spec() -> RunSpec:
    return expand(Grid("zero_shot", demo=True))[0]


def test_states_follow_the_files(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    folder = ledger.folder(spec.run_id)
    assert folder.state() is State.PLANNED
    ledger.enter([spec])
    assert folder.state() is State.PLANNED
    with held(folder.path):
        assert folder.state() is State.RUNNING
    folder.metrics.write_text("{}\n")
    assert folder.state() is State.STALE
    folder.fail("Boom", "boom", "trace")
    assert folder.state() is State.FAILED
    result = make_result(spec).model_dump_json()
    folder.result.write_text(result)
    assert folder.state() is State.FINISHED
    folder.result.write_text(result[: len(result) // 2])
    assert folder.state() is State.FAILED, "a result cut in half is no result"


def test_a_spec_reads_back_as_the_same_run(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    ledger.enter([spec])
    assert ledger.spec(spec.run_id) == spec
    assert ledger.spec(spec.run_id).run_id == spec.run_id


def test_attempts_are_counted(tmp_path: Path, spec: RunSpec) -> None:
    folder = Ledger(tmp_path).folder(spec.run_id)
    assert [folder.fail("E", "m", "t").attempt for _ in range(3)] == [1, 2, 3]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputUnusable, match=r"cannot write .*file: No space left on device"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path, spec: RunSpec) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(OutputUnusable, match="choose another folder with --out"):
        Ledger(tmp_path).enter([spec])


@pytest.mark.parametrize("beats", [True, False])
def test_a_run_elsewhere_is_watched_before_it_is_deleted(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch, beats: bool
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.02)
    ledger = Ledger(tmp_path)
    ledger.enter([spec])
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
        with pytest.raises(OutputUnusable, match="is held by node7 pid 1; stop it before a rerun"):
            ledger.forget([spec.run_id])
        assert exists(ledger.folder(spec.run_id).spec)
    else:
        ledger.forget([spec.run_id])
        assert not exists(path)
    assert len(looked) >= 3


def test_a_running_run_is_not_deleted(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    ledger.enter([spec])
    with (
        held(ledger.folder(spec.run_id).path),
        pytest.raises(OutputUnusable, match=r"is held by .*stop it before a rerun"),
    ):
        ledger.forget([spec.run_id])
    ledger.forget([spec.run_id])
    assert not ledger.folder(spec.run_id).path.exists()
