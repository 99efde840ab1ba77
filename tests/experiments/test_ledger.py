"""Run folders: what state a run is in, and who may work on it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import lease as leases
from experiments.errors import LeaseHeld, LeaseLost, OutputUnusable
from experiments.files import write_text, write_whole
from experiments.lease import Holder, held, read_holder
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
    with held(folder.lease):
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


def test_a_live_lease_is_respected(tmp_path: Path) -> None:
    with held(tmp_path / "lease"), pytest.raises(LeaseHeld), held(tmp_path / "lease"):
        pass
    assert not (tmp_path / "lease").exists()


def test_the_lease_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    code = f"""
import os, sys
from pathlib import Path
from experiments.lease import Lease
Lease(Path({str(path)!r}))
os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    holder = read_holder(path)
    assert holder is not None
    assert not holder.alive()
    with held(path) as lease:
        lease.check()


def test_a_lease_from_elsewhere_dies_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    assert Holder("o", "elsewhere", 1, 0.0, now).alive()
    assert not Holder("o", "elsewhere", 1, 0.0, now - leases.PATIENCE - 1).alive()


def test_who_lost_the_lease_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    with held(path) as lease:
        stolen = {**json.loads(path.read_text()), "owner": "somebody else"}
        write_text(path, json.dumps(stolen))
        with pytest.raises(LeaseLost):
            lease.check()
    assert path.exists(), "another's lease is not ours to remove"


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


def test_a_running_run_is_not_deleted(tmp_path: Path, spec: RunSpec) -> None:
    ledger = Ledger(tmp_path)
    ledger.enter([spec])
    lease = ledger.folder(spec.run_id).lease
    with held(lease), pytest.raises(OutputUnusable, match="is running on"):
        ledger.forget(spec.run_id)
    ledger.forget(spec.run_id)
    assert not ledger.folder(spec.run_id).path.exists()
