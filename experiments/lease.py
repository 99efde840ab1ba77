"""Who works on a run: a lease file with owner and heartbeat.

On the machine of its owner a lease lives as long as the process does; seen from elsewhere it is
live while its heartbeat is younger than `PATIENCE` seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from experiments.errors import LeaseHeld, LeaseLost, OutputUnusable
from experiments.files import unusable, write_text

HEARTBEAT = 5.0
PATIENCE = 60.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. Times in seconds since the epoch; `started` is the process's own."""

    owner: str
    host: str
    pid: int
    started: float
    heartbeat: float

    def alive(self) -> bool:
        """Whether the holder still works, as far as can be seen from here."""
        if self.host == socket.gethostname():
            started = _process_start(self.pid)
            return started is not None and abs(started - self.started) < 1.0
        return time.time() - self.heartbeat < PATIENCE


def _process_start(pid: int) -> float | None:
    """When process `pid` started; None if it is gone or a zombie. Tells reused ids apart."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def read_holder(path: Path) -> Holder | None:
    """Who holds the lease at `path`; None if nobody does or the file is half-written."""
    with suppress(FileNotFoundError, json.JSONDecodeError, TypeError):
        return Holder(**json.loads(path.read_text()))
    return None


class Lease:
    """A held lease: renewed by a thread until released. Use `with held(path) as lease`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        with _locked(path.parent):
            holder = read_holder(path)
            if holder is not None and holder.alive():
                raise LeaseHeld(f"{path.parent.name} is held by {holder.host} pid {holder.pid}")
            self._write()
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLost if another process took the run over."""
        holder = read_holder(self.path)
        if holder is None or holder.owner != self.owner:
            raise LeaseLost(f"{self.path.parent.name}: another process took this run over")

    def release(self) -> None:
        """Stop renewing and remove the lease, if it is still ours."""
        self._stop.set()
        self._thread.join()
        with _locked(self.path.parent):
            holder = read_holder(self.path)
            if holder is not None and holder.owner == self.owner:
                self.path.unlink()

    def _renew(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            try:
                with _locked(self.path.parent):
                    holder = read_holder(self.path)
                    if holder is None or holder.owner != self.owner:
                        return
                    self._write()
            except OutputUnusable:
                continue  # a full disk may have room at the next heartbeat

    def _write(self) -> None:
        pid = os.getpid()
        started = _process_start(pid)
        assert started is not None
        holder = Holder(self.owner, socket.gethostname(), pid, started, time.time())
        write_text(self.path, json.dumps(asdict(holder)))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder's own lock: two processes must not both see a lease as free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[Lease]:
    """Hold the lease at `path`; LeaseHeld if a live process has it."""
    lease = Lease(path)
    try:
        yield lease
    finally:
        lease.release()
