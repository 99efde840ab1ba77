"""How many processes load a run's videos, and what becomes of a run that loses one."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import machine
from experiments.errors import LoaderDied, LoaderOutOfMemory
from experiments.store.ledger import Ledger
from experiments.worker import data as worker_data
from experiments.worker.data import detect_dead_loader
from experiments.worker.memory import loader_processes
from tcclip.config import LOADER_BYTES, LOADER_PIECES, Execution
from tcclip.data.clips import TrainClips
from tcclip.data.loader_pool import LoaderPool, NoMemory
from tests.experiments.sweeping import EXECUTION, numbers, run_sweep, small_specs

AUTO = Execution()
GIB = 2**30


@pytest.mark.parametrize(
    ("asked", "cpus", "free", "expected"),
    [
        ("auto", 1, 640 * GIB, 1),
        ("auto", 2, 640 * GIB, 1),
        ("auto", 8, 64 * GIB, 7),
        ("auto", 128, 640 * GIB, 32),
        ("auto", 8, None, 7),
        (12, 2, 640 * GIB, 12),
        (0, 8, 64 * GIB, 0),
        # Half of what is free, here of 16 CPUs and so of two workers.
        ("auto", 8, 4 * 3 * (LOADER_BYTES + LOADER_PIECES * 10**8), 3),
        (6, 8, 4 * 3 * (LOADER_BYTES + LOADER_PIECES * 10**8), 3),
        (6, 8, 0, 0),
    ],
)
def test_how_many_processes_load(
    asked: Any, cpus: int, free: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    monkeypatch.setattr(machine, "cpu_count", lambda: 16)
    made, why = loader_processes(Execution(loader_workers=asked), cpus, 10**8)
    assert made == expected
    assert ("MiB of memory are free" in why) is (asked != 0 and free is not None and free < 6 * GIB)


def _lose_one(flag: Path, by: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process that loads the 50th clip of training is killed."""
    original = TrainClips.__getitem__

    def load(self: TrainClips, key: Any) -> Any:
        if key.position == 50 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), by)
        return original(self, key)

    monkeypatch.setattr(TrainClips, "__getitem__", load)


def test_a_run_whose_loader_is_killed_goes_on_with_fewer_to_the_same_numbers(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = small_specs(models=("vifi_clip",), train__epochs=1)
    assert run_sweep([spec], tmp_path / "none", cache).exit_code == 0
    monkeypatch.setattr(machine, "killed_for_memory", lambda: None)
    _lose_one(tmp_path / "killed", signal.SIGKILL, monkeypatch)
    two = EXECUTION.model_copy(update={"loader_workers": 2})
    # Without a retry: it is no failed attempt.
    assert run_sweep([spec], tmp_path / "two", cache, two).exit_code == 0
    assert (tmp_path / "killed").exists()
    assert numbers(tmp_path / "two", spec) == numbers(tmp_path / "none", spec), "bit for bit"
    folder = Ledger(tmp_path / "two").folder(spec.run_id)
    result, log = folder.read_result(), folder.log.read_text()
    assert result is not None and result.provenance.loader_workers == 1
    assert "not enough memory for --loader-workers 2: one was ended by SIGKILL" in log
    assert "going on with 1" in log
    metrics = map(json.loads, folder.metrics.read_text().splitlines())
    (memory,) = [one for one in metrics if one["kind"] == "memory"]
    assert (memory["setting"], memory["before"], memory["after"]) == ("loader_workers", 2, 1)


@pytest.mark.parametrize(
    ("codes", "counted", "error", "message"),
    [
        ([-9], [4, 5], LoaderOutOfMemory, "one was ended by SIGKILL"),
        ([-9], [None, None], LoaderOutOfMemory, "one was ended by SIGKILL"),
        ([-9], [4, 4], LoaderDied, "was ended by SIGKILL; .*--loader-workers 0"),
        ([-7], [4, 4], LoaderOutOfMemory, "SIGBUS"),
        ([-11], [4, 5], LoaderDied, "SIGSEGV"),
        ([3], [4, 4], LoaderDied, "ended by itself"),
        ([], [4, 4], RuntimeError, "DataLoader worker"),
    ],
)
def test_why_a_loader_died(
    codes: list[int], counted: list[int | None], error: type[Exception], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    counts = iter([*counted, 0])
    monkeypatch.setattr(machine, "killed_for_memory", lambda: next(counts))
    monkeypatch.setattr(LoaderPool, "exit_codes", lambda self: codes)
    with pytest.raises(error, match=message) as raised, detect_dead_loader(LoaderPool(3)):
        raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")
    assert type(raised.value) is error
    if isinstance(raised.value, LoaderOutOfMemory):
        assert raised.value.batch == 3
    with pytest.raises(LoaderOutOfMemory), detect_dead_loader(LoaderPool(3)):
        raise NoMemory("MemoryError: ")


def test_a_run_that_waits_for_data_says_so(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_data, "MUCH_WAITING", -1.0)
    (spec,) = small_specs(models=("vifi_clip",), train__epochs=1)
    assert run_sweep([spec], tmp_path, cache).exit_code == 0
    folder = Ledger(tmp_path).folder(spec.run_id)
    result = folder.read_result()
    assert result is not None
    found = result.provenance
    assert found.loader_workers == 0
    assert found.waited_for_data is not None and 0 < found.waited_for_data < 1
    assert found.waiting_advice is not None and "loader process" in found.waiting_advice
    log = folder.log.read_text()
    assert log.count("waits for data") == 1 and found.waiting_advice in log


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize(("size", "loaders"), [("4k", 0), ("1M", 1)])
def test_little_shared_memory_hangs_no_loader(
    tmp_path: Path, cache: Path, size: str, loaders: int
) -> None:
    """A batch of 32 clips of 32 frames is 3 MB; 4 kB have no room for the locks of a process."""
    tcclip = Path(sys.executable).with_name("tcclip")
    command = (
        f"mount -t tmpfs -o size={size} tmpfs /dev/shm && exec {tcclip} sweep zero_shot --demo "
        "--models vifi_clip --seeds 0 --executor local --micro-batch 32 --loader-workers 1 "
        f"--set train.epochs=1 --set model.num_frames=32 --out {tmp_path / 'out'}"
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", command], check=False, capture_output=True, text=True,
        env=os.environ | {"TCCLIP_CACHE": str(cache)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "out/runs").glob("*/result.json")
    assert json.loads(result.read_text())["provenance"]["loader_workers"] == loaders
