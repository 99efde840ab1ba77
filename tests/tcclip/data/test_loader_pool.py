"""The processes that load: no batch is lost, whatever becomes of them."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch.utils.data import _utils
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from tcclip.data.decode.reader import UnreadableVideo
from tcclip.data.loader_pool import LoaderPool, NoMemory


class Made(NamedTuple):
    pixels: torch.Tensor
    numbers: torch.Tensor
    process: int


def make(keys: Sequence[int], *, size: int = 70_000) -> Made:
    """Pixels of a size that differs from batch to batch."""
    return Made(torch.full((len(keys), size + keys[0]), keys[0]), torch.tensor(keys), os.getpid())


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_batch_is_kept_while_others_are_made(workers: int) -> None:
    pool = LoaderPool(workers)
    first, second = pool.add(make), pool.add(partial(make, size=0))
    for source, size in ((first, 70_000), (second, 0), (first, 70_000)):
        batches: list[Made] = list(pool.batches(source, [[i] for i in range(12)]))
        for number, one in enumerate(batches):
            assert torch.equal(one.pixels, torch.full((1, size + number), number))
            assert one.numbers.tolist() == [number]
    processes = {one.process for one in batches}
    assert len(processes) == max(1, workers)
    groups = {os.getpgid(one) for one in processes}
    assert groups == (processes if workers else {os.getpgid(0)}), "no signal to the run's group"
    again: list[Made] = list(pool.batches(second, [[1], [2]]))
    assert {one.process for one in again} <= processes, "the same processes for all sources"


def unreadable(keys: Sequence[int]) -> Made:
    raise UnreadableVideo("a.mp4", "no frames")


def no_memory(keys: Sequence[int]) -> Made:
    raise MemoryError("unable to allocate")


def full(keys: Sequence[int]) -> Made:
    raise OSError(28, "No space left on device")


class Awkward(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def not_to_be_sent(keys: Sequence[int]) -> Made:
    raise Awkward(1, 2)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (unreadable, UnreadableVideo, "a.mp4: no frames"),
        (no_memory, NoMemory, "MemoryError: unable to allocate"),
        (full, NoMemory, "No space left"),
        (not_to_be_sent, RuntimeError, "Awkward: 1 and 2"),
    ],
)
def test_what_a_process_raises_is_raised(
    source: object, error: type[Exception], message: str
) -> None:
    pool = LoaderPool(1)
    number = pool.add(source)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        next(pool.batches(number, [[1]]))


def die(keys: Sequence[int], *, by: int) -> Made:
    if keys[0] == 3:
        os.kill(os.getpid(), by)
        time.sleep(60)
    return make(keys)


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks after its processes every 0.2 s, not every 5."""
    monkeypatch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    asks = _MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(asks, "__defaults__", (0.2,))


@pytest.mark.usefixtures("attentive")
@pytest.mark.parametrize(("by", "in_thread"), [(signal.SIGKILL, True), (signal.SIGBUS, False)])
def test_a_process_that_was_killed_ends_the_wait_in_seconds(
    by: signal.Signals, in_thread: bool
) -> None:
    """Ray runs a worker in a thread, where torch has no handler for the end of a process."""
    pool, raised = LoaderPool(2), list[RuntimeError]()
    number = pool.add(partial(die, by=by))

    def load() -> None:
        with pytest.raises(RuntimeError, match="DataLoader worker") as error:
            list(pool.batches(number, [[i] for i in range(9)]))
        raised.append(error.value)

    if in_thread:
        thread = threading.Thread(target=load)
        thread.start()
        thread.join(40)
    else:
        load()
    assert raised
    assert pool.exit_codes() == [-by]


def test_where_no_process_can_be_started_this_one_loads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    pool = LoaderPool(2)
    number = pool.add(make)
    for _ in range(2):
        batches: list[Made] = list(pool.batches(number, [[1], [2]]))
        assert [one.process for one in batches] == [os.getpid()] * 2
    (said,) = caplog.messages
    assert "cannot be started" in said and "this one loads them itself" in said
    assert (pool.workers, pool.refused) == (0, True)
    assert pool.workers == 0


def slow(keys: Sequence[int]) -> Made:
    time.sleep(0.05)
    return make(keys)


@pytest.mark.parametrize("workers", [0, 1])
def test_waiting_is_counted(workers: int) -> None:
    pool = LoaderPool(workers)
    number = pool.add(slow)
    assert (pool.waited, pool.waited_of) == (0, 0)
    list(pool.batches(number, [[i] for i in range(4)]))
    assert 0.1 < pool.waited <= pool.waited_of


def test_batches_need_no_place_in_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch shares tensors in /dev/shm, and their descriptors through sockets in TMPDIR, where a
    path has at most 107 bytes."""

    def refuse(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 110)))
    pool = LoaderPool(1)
    number = pool.add(make)
    assert len(list(pool.batches(number, [[1], [2], [3]]))) == 3
