"""Who works on a run: lease files with owner and heartbeat, on any store.

The holder is whoever wrote the lease file of the highest number, `lease-000001.json`. Creating
one is exclusive, so of several processes one gets the run; nobody ever writes another's file. A
sweep claims a run before it starts a worker, and the worker adopts the claim: same owner, its own
process, whose heartbeats are the only ones from then on.

Dead or alive: seen from the same place (machine, boot and process namespace) a lease lives as long
as its process does. Seen from elsewhere it is dead when its heartbeat was watched for `PATIENCE`
seconds and did not change. No clock of another machine takes part in that decision.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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

#: Seconds between heartbeats; an object store is asked less often.
HEARTBEAT, REMOTE_HEARTBEAT = 5.0, 15.0
#: So many heartbeats late, a holder was cut off or frozen: it looks before it goes on writing.
BEATS_LATE = 3


@dataclass
class Watch:
    """Watches heartbeats over time, to tell the dead from the living without trusting clocks."""

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


def heartbeat_seconds(folder: Location) -> float:
    """Seconds between the heartbeats of a run's holder."""
    return HEARTBEAT if is_local(folder) else REMOTE_HEARTBEAT


def stirs(folder: Location, holder: Holder) -> bool:
    """Whether `holder` of the run in `folder` lives, for who cannot wait for a `Watch`.

    One elsewhere that seems dead by the clocks is watched for `PATIENCE` seconds: a network's file
    system may show its heartbeats late.
    """
    if holder.here or holder.seems_alive():
        return holder.seems_alive()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(heartbeat_seconds(folder) / 5)
        now = read_holder(folder)
        if now is None or now.owner != holder.owner or now.beat != holder.beat:
            return now is not None
    return False


def _owners(folder: Location) -> dict[str, Holder]:
    """Owner -> lease, of every lease file there is; of several, usually the last one holds."""
    read = {path: read_bytes(path) for path in lease_files(folder)}
    found = [
        parse_holder(data, lease_number(path)) for path, data in read.items() if data is not None
    ]
    return {holder.owner: holder for holder in found}


def _by_this_process(holder: Holder) -> bool:
    return holder.place == place() and holder.pid == os.getpid()


class Lease:
    """A held lease: renewed by a thread until released.

    `owner`: in whose name. `alive` decides whether another holder may be replaced. LeaseHeld if a
    live one has it or another was quicker. A worker adopts what its sweep claimed: `adopt`.
    """

    def __init__(
        self,
        folder: Location,
        owner: str | None = None,
        alive: Callable[[Holder], bool] = Holder.seems_alive,
    ) -> None:
        before, holder = _owners(folder), read_holder(folder)
        if holder is not None and alive(holder):
            raise LeaseHeld(f"{folder.name} is held by {holder.host} pid {holder.pid}")
        number = 1 if holder is None else holder.number + 1
        self._begin(folder, owner or uuid.uuid4().hex, number, beat=0, adopted=False)
        if not create_text(self._file, self._text()):
            raise LeaseHeld(f"{folder.name}: another process took it a moment ago")
        try:
            self._stand_back(before)
            for old in lease_files(folder):
                if lease_number(old) < self.number:
                    remove(old)
        except StorageError:
            # Nobody would renew or release it, and with this process it would live on.
            with suppress(StorageError):
                remove(self._file)
            raise
        self._thread.start()

    @classmethod
    def adopt(cls, folder: Location, owner: str) -> Lease:
        """The lease that was claimed in the name of `owner`, for this process from now on.

        LeaseLost if it is not there any more: whoever claimed it is gone or gave up waiting.
        """
        holder = read_holder(folder)
        if holder is None or holder.owner != owner:
            raise LeaseLost(f"{folder.name}: the attempt this process was started for is over")
        lease = cls.__new__(cls)
        lease._begin(folder, owner, holder.number, beat=holder.beat + 1, adopted=True)
        write_text(lease._file, lease._text())
        lease._thread.start()
        return lease

    def _begin(
        self, folder: Location, owner: str, number: int, *, beat: int, adopted: bool
    ) -> None:
        self.folder, self.owner, self.number = folder, owner, number
        self._beat, self._adopted = beat, adopted
        self._lost, self._seen = False, time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")

    def _stand_back(self, before: Mapping[str, Holder]) -> None:
        """LeaseHeld if meanwhile another process took the run: with a higher number, or, if in
        between all leases had been released, with a lower one."""
        for owner, holder in _owners(self.folder).items():
            if owner != self.owner and owner not in before:
                remove(self._file)
                raise LeaseHeld(f"{self.folder.name}: {holder.host} pid {holder.pid} was quicker")

    def _mine(self) -> Holder | None:
        """The holder if that is this owner; None if the lease is lost."""
        holder = read_holder(self.folder)
        self._lost = holder is None or holder.owner != self.owner
        self._seen = time.time()
        return None if self._lost else holder

    def mine(self) -> bool:
        """Whether the run is still this owner's, by the files."""
        return self._mine() is not None

    def check(self) -> None:
        """Raise LeaseLost if another process took the run over."""
        if not self.mine():
            raise LeaseLost(f"{self.folder.name}: another process took this run over")

    def guard(self) -> None:
        """`check`, if there is reason to: cheap, for before every line that is written.

        The files are asked when heartbeats came late, as after this process or its disk was frozen.
        A store out of reach is no reason to stop: the next checkpoint meets it.
        """
        late = abs(time.time() - self._seen) > BEATS_LATE * heartbeat_seconds(self.folder)
        if self._lost or late:
            with suppress(StorageError):
                self.check()

    def stop(self) -> None:
        """Renew no more; the lease stays, and with this process still alive it holds."""
        self._stop.set()
        self._thread.join()

    def release(self) -> None:
        """Stop renewing, and remove the lease if it is still this owner's, adopted or not."""
        self.stop()
        try:
            if self.mine():
                remove(self._file)
        except StorageError as error:  # not to hide what ended the attempt
            log.warning("%s: its lease stays until it is seen to be dead: %s", self.folder, error)

    @property
    def _file(self) -> Location:
        return self.folder / f"{PREFIX}{self.number:06d}.json"

    def _renew(self) -> None:
        while not self._stop.wait(heartbeat_seconds(self.folder)):
            # A full disk or a store out of reach may be there again at the next heartbeat.
            with suppress(StorageError):
                holder = self._mine()
                # Of claimer and worker the worker beats, and has the last word.
                claimed = holder is not None and (self._adopted or _by_this_process(holder))
                if holder is None or not claimed:
                    return
                self._beat = max(self._beat, holder.beat) + 1
                write_text(self._file, self._text())

    def _text(self) -> str:
        pid = os.getpid()
        started = process_start(pid)
        assert started is not None
        holder = Holder(
            self.owner, self.number, socket.gethostname(), place(), pid, started,
            self._beat, time.time(),
        )  # fmt: skip
        return json.dumps(asdict(holder))


@contextmanager
def held(
    folder: Location,
    owner: str | None = None,
    alive: Callable[[Holder], bool] = Holder.seems_alive,
) -> Iterator[Lease]:
    """Hold the lease of the run in `folder`; see `Lease`."""
    lease = Lease(folder, owner, alive)
    try:
        yield lease
    finally:
        lease.release()
