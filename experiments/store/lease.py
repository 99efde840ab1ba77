"""Leases: one process at a time works on a run, on a file system or in an object store.

The holder of a run is whoever wrote the lease file of the highest number, `lease-000001.json`.
Creating one is exclusive, so of several processes one gets the run, and nobody writes another
owner's file. A sweep claims a run before it starts a worker, and the worker adopts the claim: the
owner stays the same, and from then on only the worker renews the lease.

Seen from the same place (machine, boot and process namespace), a lease lives as long as its process
does. Seen from elsewhere, it is dead when its heartbeat was watched for `PATIENCE` seconds and did
not change: no clock of another machine takes part in that decision.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field

from experiments.errors import LeaseHeld, LeaseLost, StorageError
from experiments.store.files import create_text, remove, write_text
from results.reading.holder import (
    PATIENCE,
    PREFIX,
    Holder,
    lease_files,
    lease_number,
    parse_holder,
    read_holder,
)
from results.reading.location import Location, is_local, read_bytes
from results.reading.process_id import place, process_start

log = logging.getLogger(__name__)

#: Seconds between heartbeats, on a file system and in an object store.
HEARTBEAT, REMOTE_HEARTBEAT = 5.0, 15.0
#: After so many missed heartbeats a holder checks its lease before it writes on.
BEATS_LATE = 3


@dataclass
class Watch:
    """Watches heartbeats over time, to tell dead holders from live ones without their clocks."""

    _seen: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)

    def alive(self, holder: Holder) -> bool:
        """False once `holder` is known to be dead; True while it lives or is not known yet."""
        if holder.here:
            return holder.running()
        key, now = (holder.owner, holder.number), time.monotonic()
        beat, since = self._seen.get(key, (-1, now))
        if beat != holder.beat:
            since = now
        self._seen[key] = (holder.beat, since)
        return now - since < PATIENCE


def _holders(folder: Location) -> list[Holder]:
    """What every lease file says that there is, by their numbers."""
    found = [(path, read_bytes(path)) for path in lease_files(folder)]
    return [parse_holder(data, lease_number(path)) for path, data in found if data is not None]


def _by_this_process(holder: Holder) -> bool:
    return holder.place == place() and holder.pid == os.getpid()


class Lease(AbstractContextManager["Lease"]):
    """A lease of this process, renewed by a thread; made by `claim` or `adopt`.

    As a context manager it is released at the end.
    """

    def __init__(
        self, folder: Location, owner: str, number: int, *, beat: int = 0, adopted: bool = False
    ) -> None:
        self.folder, self.owner, self.number = folder, owner, number
        self.file = folder / f"{PREFIX}{number:06d}.json"
        self._beat, self._adopted = beat, adopted
        self._seconds = HEARTBEAT if is_local(folder) else REMOTE_HEARTBEAT
        self._lost, self._checked = False, time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")

    def __exit__(self, *_: object) -> None:
        self.release()

    def content(self) -> str:
        """What its file says, with a heartbeat of now."""
        pid = os.getpid()
        holder = Holder(
            self.owner, self.number, socket.gethostname(), place(), pid, process_start(pid) or 0.0,
            self._beat, time.time(),
        )  # fmt: skip
        return json.dumps(asdict(holder))

    def start(self) -> None:
        """Begin to renew it."""
        self._thread.start()

    def is_held(self) -> bool:
        """Whether the run is still this owner's, by the files."""
        return self._read() is not None

    def check(self) -> None:
        """Raise LeaseLost if another process took the run over."""
        if not self.is_held():
            raise LeaseLost(f"{self.folder.name}: another process took this run over")

    def check_if_late(self) -> None:
        """`check` if heartbeats came late, as after this process or its disk was frozen.

        A store out of reach is not an error here: the next checkpoint raises it.
        """
        late = abs(time.time() - self._checked) > BEATS_LATE * self._seconds
        if self._lost or late:
            with suppress(StorageError):
                self.check()

    def stop(self) -> None:
        """Stop renewing it. The file stays, and holds the run as long as this process lives."""
        self._stop.set()
        self._thread.join()

    def release(self) -> None:
        """Stop renewing it, and remove its file if the run is still this owner's."""
        self.stop()
        try:
            if self.is_held():
                remove(self.file)
        except StorageError as error:  # must not hide the error that ended the attempt
            log.warning("%s: its lease file could not be removed: %s", self.folder, error)

    def _read(self) -> Holder | None:
        """The run's holder if that is this owner; None if the lease is lost."""
        holder = read_holder(self.folder)
        self._lost = holder is None or holder.owner != self.owner
        self._checked = time.time()
        return None if self._lost else holder

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds):
            # A full disk or a store out of reach may recover before the next heartbeat.
            with suppress(StorageError):
                holder = self._read()
                if holder is None:
                    return
                if not self._adopted and not _by_this_process(holder):
                    return  # a worker adopted it, and renews it from now on
                self._beat = max(self._beat, holder.beat) + 1
                write_text(self.file, self.content())


def claim(folder: Location, alive: Callable[[Holder], bool] = Holder.seems_alive) -> Lease:
    """Take the run in `folder` in the name of a new owner.

    LeaseHeld if a holder has it that is `alive`, or another process was quicker.
    """
    before = _holders(folder)
    if before and alive(before[-1]):
        raise LeaseHeld(f"{folder.name} is held by {before[-1].host} pid {before[-1].pid}")
    number = before[-1].number + 1 if before else 1
    lease = Lease(folder, uuid.uuid4().hex, number)
    if not create_text(lease.file, lease.content()):
        raise LeaseHeld(f"{folder.name}: another process took it a moment ago")
    try:
        # Another process may have made a higher number, or, if all leases were released in the
        # meantime, a lower one.
        known = {lease.owner, *(one.owner for one in before)}
        for other in _holders(folder):
            if other.owner not in known:
                raise LeaseHeld(f"{folder.name}: {other.host} pid {other.pid} was quicker")
        for old in lease_files(folder):
            if lease_number(old) < number:
                remove(old)
    except (LeaseHeld, StorageError):
        # Left behind, it would count as held as long as this process lives.
        with suppress(StorageError):
            remove(lease.file)
        raise
    lease.start()
    return lease


def adopt(folder: Location, owner: str) -> Lease:
    """The lease that was claimed in the name of `owner`, held by this process from now on.

    LeaseLost if the run is not that owner's any more.
    """
    holder = read_holder(folder)
    if holder is None or holder.owner != owner:
        raise LeaseLost(f"{folder.name}: the attempt this process was started for is over")
    lease = Lease(folder, owner, holder.number, beat=holder.beat + 1, adopted=True)
    write_text(lease.file, lease.content())
    lease.start()
    return lease
