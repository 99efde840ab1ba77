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

from experiments.errors import LeaseHeld, LeaseLost
from experiments.store import lease as leases
from experiments.store.files import write_text
from experiments.store.lease import Lease, Watch, adopt, claim
from results.reading import holder as holders
from results.reading import process_id as processes
from results.reading.holder import Holder, lease_files, read_holder
from tests.places import ROOT

ELSEWHERE = Holder("o", 1, "node7", "another place", 1, 0.0, beat=3, heartbeat=0.0)


def run_and_kill(code: str) -> None:
    """Run `code` in a process that then dies by SIGKILL."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    imports = (
        "import os\nfrom pathlib import Path\nfrom experiments.store.lease import adopt, claim"
    )
    code = f"{imports}\n{code}\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)


def elsewhere(folder: Path, beat: int, heartbeat: float) -> Holder:
    holder = replace(ELSEWHERE, beat=beat, heartbeat=heartbeat)
    write_text(folder / "lease-000001.json", json.dumps(vars(holder)))
    return holder


def lease_names(folder: Path) -> list[str]:
    return [path.name for path in lease_files(folder)]


def test_a_live_lease_is_respected(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(LeaseHeld, match=f"pid {os.getpid()}"):
        claim(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_lease_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    run_and_kill(f"claim(Path({str(tmp_path)!r}))")
    holder = read_holder(tmp_path)
    assert holder is not None and holder.here and not holder.running()
    with claim(tmp_path, alive=Watch().alive) as lease:
        lease.check()
        assert lease_names(tmp_path) == ["lease-000002.json"]


def test_a_claim_is_adopted_by_the_worker_and_released_by_the_sweep(tmp_path: Path) -> None:
    claimed = claim(tmp_path)
    run_and_kill(f"adopt(Path({str(tmp_path)!r}), {claimed.owner!r})")
    holder = read_holder(tmp_path)
    assert holder is not None and holder.pid != os.getpid()
    assert (holder.owner, holder.number, holder.beat) == (claimed.owner, 1, 1)
    claimed.release()
    assert not list(tmp_path.iterdir())


def test_a_holder_that_was_replaced_is_told_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claim(tmp_path)
    with claim(tmp_path, alive=lambda holder: False):
        lease.check_if_late()  # heartbeats are not late yet: the files are not read
        later = time.time() + 100
        monkeypatch.setattr(leases.time, "time", lambda: later)
        for check in (lease.check_if_late, lease.check):
            with pytest.raises(LeaseLost):
                check()
        lease.release()
        assert read_holder(tmp_path) is not None
    assert not list(tmp_path.iterdir())


def test_a_worker_that_starts_too_late_adopts_nothing(tmp_path: Path) -> None:
    with pytest.raises(LeaseLost, match="the attempt this process was started for is over"):
        adopt(tmp_path, "attempt 1")
    elsewhere(tmp_path, 3, time.time() - 7200)  # its successor, by a clock that is two hours behind
    with pytest.raises(LeaseLost):
        adopt(tmp_path, "attempt 1")
    assert lease_names(tmp_path) == ["lease-000001.json"]


def test_after_the_adoption_only_the_worker_renews_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.02)
    claimed = claim(tmp_path)
    claims = (tmp_path / "lease-000001.json").read_text()
    worker = adopt(tmp_path, claimed.owner)
    monkeypatch.setattr(leases, "_by_this_process", lambda holder: False)  # two processes
    claimed._thread.join(10)
    assert not claimed._thread.is_alive(), "it saw that the worker adopted the lease"
    # The sweep's last heartbeat, which it had begun to write just before the adoption.
    write_text(tmp_path / "lease-000001.json", claims)
    deadline = time.monotonic() + 30
    while (holder := read_holder(tmp_path)) is None or holder.beat < 5:
        assert time.monotonic() < deadline, "the worker does not renew it any more"
        time.sleep(0.01)
    worker.stop()
    claimed.release()
    assert not list(tmp_path.iterdir())


def test_a_number_that_was_used_before_takes_nothing_from_a_live_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path, 0, 0.0)
    real = leases.create_text

    def slow(path: Path, text: str) -> bool:
        # Meanwhile another process replaced the dead one and ended, and a third one began.
        (tmp_path / "lease-000001.json").unlink()
        monkeypatch.setattr(leases, "create_text", real)
        third.append(claim(tmp_path))
        return real(path, text)

    third: list[Lease] = []
    monkeypatch.setattr(leases, "create_text", slow)
    with pytest.raises(LeaseHeld, match=f"pid {os.getpid()} was quicker"):
        claim(tmp_path, alive=lambda holder: False)
    assert lease_names(tmp_path) == ["lease-000001.json"]
    third[0].check()
    third[0].release()


def test_a_lease_left_below_a_dead_one_is_removed(tmp_path: Path) -> None:
    for number in (1, 2):  # who took over was killed before it removed the old one
        holder = replace(ELSEWHERE, owner=f"o{number}", number=number)
        write_text(tmp_path / f"lease-00000{number}.json", json.dumps(vars(holder)))
    with claim(tmp_path, alive=lambda holder: False) as lease:
        assert lease.number == 3
        assert lease_names(tmp_path) == ["lease-000003.json"]


def test_processes_are_told_apart_without_a_clock(tmp_path: Path) -> None:
    with claim(tmp_path):
        holder = read_holder(tmp_path)
    assert holder is not None and holder.running()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < holder.started < uptime, "since the machine booted: no clock can be set back there"
    assert not replace(holder, started=holder.started + 0.01).running()


def test_a_process_that_cannot_be_seen_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with claim(tmp_path):
        holder = read_holder(tmp_path)

    def refused(pid: int, number: int) -> None:
        raise PermissionError

    assert holder is not None and holder.here
    monkeypatch.setattr(processes, "process_start", lambda pid: None)  # as under hidepid=2
    monkeypatch.setattr(processes.os, "kill", refused)
    assert not holder.here
    assert Watch().alive(holder)
    assert not processes.gone(holder.pid)


@pytest.mark.parametrize("skew", [-7200.0, 0.0, 7200.0])
def test_heartbeats_from_elsewhere_count_whatever_their_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    watch, now = Watch(), 1000.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: now)
    for beat in range(30):  # ten minutes
        holder = elsewhere(tmp_path, beat, time.time() + skew)
        assert watch.alive(holder)
        now += 20
    with pytest.raises(LeaseHeld, match="node7"):
        claim(tmp_path, alive=watch.alive)
    now += leases.PATIENCE - 21
    assert watch.alive(holder), "not silent for long enough"
    now += 2
    assert not watch.alive(holder)
    with claim(tmp_path, alive=watch.alive) as lease:
        lease.check()


def test_a_damaged_lease_is_watched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lease-000004.json").write_text("{")
    watch, now = Watch(), 1000.0
    monkeypatch.setattr(leases.time, "monotonic", lambda: now)
    with pytest.raises(LeaseHeld):
        claim(tmp_path, alive=watch.alive)
    now += leases.PATIENCE + 1
    with claim(tmp_path, alive=watch.alive) as lease:
        assert lease.number == 5


def test_heartbeats_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.01)
    with claim(tmp_path):
        deadline = time.monotonic() + 30
        while (holder := read_holder(tmp_path)) is None or holder.beat < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not list(tmp_path.iterdir())


def _claim_at_once(folder: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait()
    code = 0
    try:
        claim(Path(folder))
    except LeaseHeld:
        code = 1
    barrier.wait()  # the holder lives until all have tried
    os._exit(code)


def test_of_many_processes_at_once_one_gets_the_lease(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    run_and_kill(f"claim(Path({str(tmp_path)!r}))")  # a dead holder to be replaced
    barrier = context.Barrier(6)
    processes = [
        context.Process(target=_claim_at_once, args=(str(tmp_path), barrier)) for _ in range(6)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(process.exitcode or 0 for process in processes) == [0, 1, 1, 1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["lease-000002.json"]


def test_a_lease_that_vanishes_while_it_is_read_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path, 0, 0.0)
    real = holders.read_bytes

    def replaced(path: Path, most: int) -> bytes | None:
        monkeypatch.setattr(holders, "read_bytes", real)
        path.rename(path.with_name("lease-000002.json"))  # between the listing and the reading
        return real(path, most)

    monkeypatch.setattr(holders, "read_bytes", replaced)
    holder = read_holder(tmp_path)
    assert holder is not None and holder.owner == "o"


def test_a_claim_with_a_lower_number_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = leases.create_text

    def slow(path: Path, text: str) -> bool:
        elsewhere(tmp_path, 0, 0.0)  # took over, made number 2 and removed number 1
        (tmp_path / "lease-000001.json").rename(tmp_path / "lease-000002.json")
        return real(path, text)

    monkeypatch.setattr(leases, "create_text", slow)
    with pytest.raises(LeaseHeld, match="node7 pid 1 was quicker"):
        claim(tmp_path)
    assert lease_names(tmp_path) == ["lease-000002.json"]
