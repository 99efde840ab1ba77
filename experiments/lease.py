"""Who works on a run: lease files with owner and heartbeat, on any store.

The holder is whoever wrote the lease file of the highest number, `lease-000001.json`. Creating
one is exclusive, so of several processes one gets the run; nobody ever writes another's file. A
sweep claims a run before it starts a worker, and the worker adopts the claim: same owner, its own
process.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field

from experiments.errors import LeaseHeld, LeaseLost, OutputUnusable
from experiments.files import (
    Location,
    create_text,
    is_local,
    names,
    read_bytes,
    remove,
    write_text,
)
from experiments.processes import place, process_start

log = logging.getLogger(__name__)

#: Seconds between heartbeats; an object store is asked less often.
HEARTBEAT, REMOTE_HEARTBEAT = 5.0, 15.0
PATIENCE = 60.0
PREFIX = "lease-"
#: For how many heartbeats a holder is watched before its run is deleted.
BEATS_WATCHED = 3
#: How often a lease file that vanished while it was read is looked for again.
LOOKS = 20


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `beat` counts heartbeats; `heartbeat` and `started` in epoch seconds,
    by the clock of the holder's machine; `started` is its process's start."""

    owner: str
    number: int
    host: str
    place: str
    pid: int
    started: float
    beat: int
    heartbeat: float

    @property
    def here(self) -> bool:
        """Whether its process can be seen from this one."""
        return self.place == place()

    def running(self) -> bool:
        """Of a holder here: whether its process is still there."""
        started = process_start(self.pid)
        return started is not None and abs(started - self.started) < 1.0

    def seems_alive(self) -> bool:
        """At one look: from elsewhere by the clocks, which may be off. To show, not to decide."""
        return self.running() if self.here else abs(time.time() - self.heartbeat) < PATIENCE


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

    One elsewhere that seems dead by the clocks is watched for `BEATS_WATCHED` heartbeats.
    """
    if holder.here or holder.seems_alive():
        return holder.seems_alive()
    end = time.monotonic() + BEATS_WATCHED * heartbeat_seconds(folder)
    while time.monotonic() < end:
        time.sleep(heartbeat_seconds(folder) / 5)
        now = read_holder(folder)
        if now is None or now.owner != holder.owner or now.beat != holder.beat:
            return now is not None
    return False


def lease_files(folder: Location) -> list[Location]:
    """The lease files in a run folder, the holder's last."""
    return [folder / name for name in names(folder) if name.startswith(PREFIX)]


def read_holder(folder: Location, listed: Sequence[str] | None = None) -> Holder | None:
    """Who holds the run in `folder`; None if nobody does. `listed`: its names, if known already."""
    for _ in range(LOOKS):
        present = names(folder) if listed is None else listed
        found = [folder / one for one in present if one.startswith(PREFIX)]
        if not found:
            return None
        data = read_bytes(found[-1])
        if data is not None:
            return _parse(data, _number(found[-1]))
        listed = None  # replaced or released since: look again
        time.sleep(0.05)  # a network's file system may show a deleted name a little longer
    return None


def _parse(data: bytes, number: int) -> Holder:
    with suppress(ValueError, TypeError):
        return Holder(**json.loads(data))
    return Holder("", number, "unknown", "", 0, 0.0, 0, 0.0)  # damaged: watched as well


def _number(path: Location) -> int:
    digits = path.name.removeprefix(PREFIX).removesuffix(".json")
    return int(digits) if digits.isdecimal() else 0


class Lease:
    """A held lease: renewed by a thread until released.

    `owner`: who wants it; a lease that is held in this name is adopted. `alive` decides whether
    another holder may be replaced. LeaseHeld if a live one has it or another was quicker.
    """

    def __init__(
        self,
        folder: Location,
        owner: str | None = None,
        alive: Callable[[Holder], bool] = Holder.seems_alive,
    ) -> None:
        self.folder = folder
        self.owner = owner or uuid.uuid4().hex
        self._beat = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        holder = read_holder(folder)
        if holder is not None and holder.owner == self.owner:
            self.number, self._beat = holder.number, holder.beat + 1
            write_text(self._file, self._text())
        else:
            if holder is not None and alive(holder):
                raise LeaseHeld(f"{folder.name} is held by {holder.host} pid {holder.pid}")
            self.number = 1 if holder is None else holder.number + 1
            if not create_text(self._file, self._text()):
                raise LeaseHeld(f"{folder.name}: another process took it a moment ago")
            self._stand_back()
            for old in lease_files(folder):
                if _number(old) < self.number:
                    remove(old)
        self._thread.start()

    def _stand_back(self) -> None:
        """LeaseHeld if meanwhile another process took the run with a higher number."""
        holder = read_holder(self.folder)
        if holder is not None and holder.owner != self.owner:
            remove(self._file)
            raise LeaseHeld(f"{self.folder.name}: {holder.host} pid {holder.pid} was quicker")

    def check(self) -> None:
        """Raise LeaseLost if another process took the run over."""
        holder = read_holder(self.folder)
        if holder is None or holder.owner != self.owner:
            raise LeaseLost(f"{self.folder.name}: another process took this run over")

    def stop(self) -> None:
        """Renew no more; the lease stays, and with this process still alive it holds."""
        self._stop.set()
        self._thread.join()

    def release(self) -> None:
        """Stop renewing, and remove the lease if it is still this owner's, adopted or not."""
        self.stop()
        try:
            holder = read_holder(self.folder)
            if holder is not None and holder.owner == self.owner:
                remove(self._file)
        except OutputUnusable as error:  # not to hide what ended the attempt
            log.warning("%s: its lease stays until it is seen to be dead: %s", self.folder, error)

    @property
    def _file(self) -> Location:
        return self.folder / f"{PREFIX}{self.number:06d}.json"

    def _renew(self) -> None:
        while not self._stop.wait(heartbeat_seconds(self.folder)):
            # A full disk or a store out of reach may be there again at the next heartbeat.
            with suppress(OutputUnusable, OSError):
                holder = read_holder(self.folder)
                if holder is None or holder.owner != self.owner:
                    return
                if holder.here and holder.pid == os.getpid():
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
