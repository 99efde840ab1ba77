"""Leases: who may work on a run, and when a holder counts as dead."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import lease as leases
from experiments.errors import LeaseHeld, LeaseLost
from experiments.files import write_text
from experiments.lease import Holder, Lease, Watch, held, lease_files, read_holder

ELSEWHERE = Holder("o", 1, "node7", "another place", 1, 0.0, beat=3, heartbeat=0.0)


def run_and_kill(code: str) -> None:
    """Run `code` in a process that then dies by SIGKILL."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    whole = f"import os\nfrom pathlib import Path\nfrom experiments.lease import Lease\n{code}"
    subprocess.run(
        [sys.executable, "-c", f"{whole}\nos.kill(os.getpid(), 9)"], env=environment, check=False
    )


def elsewhere(folder: Path, beat: int, heartbeat: float) -> Holder:
    holder = replace(ELSEWHERE, beat=beat, heartbeat=heartbeat)
    write_text(folder / "lease-000001.json", json.dumps(vars(holder)))
    return holder


def test_a_live_lease_is_respected(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(LeaseHeld, match=f"pid {os.getpid()}"), held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lease_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    run_and_kill(f"Lease(Path({str(tmp_path)!r}))")
    holder = read_holder(tmp_path)
    assert holder is not None
    assert holder.here
    assert not holder.running()
    with held(tmp_path, alive=Watch().alive) as lease:
        lease.check()
        assert [path.name for path in lease_files(tmp_path)] == ["lease-000002.json"]


def test_a_claim_is_adopted_by_the_worker_and_ended_by_the_claimer(tmp_path: Path) -> None:
    claim = Lease(tmp_path, "attempt 1")
    run_and_kill(f"Lease.adopt(Path({str(tmp_path)!r}), 'attempt 1')")
    holder = read_holder(tmp_path)
    assert holder is not None
    assert holder.pid != os.getpid()
    assert (holder.owner, holder.number, holder.beat) == ("attempt 1", 1, 1)
    claim.release()
    assert not list(tmp_path.iterdir()), "who claimed it knows that the attempt is over"


def test_another_owner_adopts_nothing(tmp_path: Path) -> None:
    with held(tmp_path, "attempt 1"), pytest.raises(LeaseHeld), held(tmp_path, "attempt 2"):
        pass


def test_a_worker_that_was_replaced_is_told_and_removes_nothing(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "slow")
    with held(tmp_path, "new", alive=lambda holder: False):
        with pytest.raises(LeaseLost):
            lease.check()
        lease.release()
        assert read_holder(tmp_path) is not None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("skew", [-7200.0, 0.0, 7200.0])
def test_a_heartbeat_that_goes_on_keeps_a_lease_whatever_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    watch, now = Watch(), 1000.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: now)
    for beat in range(30):  # ten minutes
        holder = elsewhere(tmp_path, beat, time.time() + skew)
        assert watch.alive(holder)
        now += 20
    with pytest.raises(LeaseHeld, match="node7"), held(tmp_path, alive=watch.alive):
        pass


@pytest.mark.parametrize("skew", [-7200.0, 0.0, 7200.0])
def test_silence_ends_a_lease_from_elsewhere_whatever_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    watch, now = Watch(), 1000.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: now)
    holder = elsewhere(tmp_path, 5, time.time() + skew)
    assert watch.alive(holder)
    now += leases.PATIENCE - 1
    assert watch.alive(holder), "not yet"
    now += 2
    assert not watch.alive(holder)
    with held(tmp_path, alive=watch.alive) as lease:
        lease.check()


def test_a_damaged_lease_is_watched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lease-000004.json").write_text("{")
    watch, now = Watch(), 1000.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: now)
    with pytest.raises(LeaseHeld), held(tmp_path, alive=watch.alive):
        pass
    now += leases.PATIENCE + 1
    with held(tmp_path, alive=watch.alive) as lease:
        assert lease.number == 5


def test_heartbeats_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.01)
    with held(tmp_path):
        deadline = time.monotonic() + 30
        while (holder := read_holder(tmp_path)) is None or holder.beat < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not list(tmp_path.iterdir())


def _grab(folder: str, all_here: "multiprocessing.synchronize.Barrier") -> None:
    all_here.wait()
    code = 0
    try:
        Lease(Path(folder))
    except LeaseHeld:
        code = 1
    all_here.wait()  # the winner lives until everybody has tried
    os._exit(code)


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    run_and_kill(f"Lease(Path({str(tmp_path)!r}))")  # there is a dead one to be replaced, too
    barrier = context.Barrier(6)
    processes = [context.Process(target=_grab, args=(str(tmp_path), barrier)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(process.exitcode or 0 for process in processes) == [0, 1, 1, 1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["lease-000002.json"]


def test_who_meets_a_vanishing_lease_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path, 0, 0.0)
    real = leases.read_bytes

    def replaced(path: Path) -> bytes | None:
        monkeypatch.setattr(leases, "read_bytes", real)
        path.rename(path.with_name("lease-000002.json"))  # between the listing and the reading
        return real(path)

    monkeypatch.setattr(leases, "read_bytes", replaced)
    holder = read_holder(tmp_path)
    assert holder is not None
    assert holder.owner == "o", "and not nobody"


def test_who_made_a_lower_number_stands_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = leases.create_text

    def slow(path: Path, text: str) -> bool:
        elsewhere(tmp_path, 0, 0.0)  # took over, made number 2 and removed number 1
        (tmp_path / "lease-000001.json").rename(tmp_path / "lease-000002.json")
        return real(path, text)

    monkeypatch.setattr(leases, "create_text", slow)
    with pytest.raises(LeaseHeld, match="node7 pid 1 was quicker"), held(tmp_path):
        pass
    assert [path.name for path in lease_files(tmp_path)] == ["lease-000002.json"]
