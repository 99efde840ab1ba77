"""Who works on a run, as its lease files say: `lease-000001.json`, the highest number holds.

Seen from the same place (machine, boot and process namespace), a holder is alive as long as its
process is; seen from elsewhere, while its heartbeat is recent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from results.reading.location import RECORD_BYTES, Location, names, read_bytes
from results.reading.metrics_log import epoch_seconds
from results.reading.process_id import hidden, place, process_start

#: Seconds without a heartbeat after which a holder elsewhere counts as dead.
PATIENCE = 60.0
#: How the names of lease files begin.
PREFIX = "lease-"
#: How often to look again when a lease file vanishes while it is read.
_TRIES = 20


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    `beat` counts heartbeats; `heartbeat` is the time of the last one in epoch seconds, by the clock
    of the holder's machine; `started` is its process's `process_start`.
    """

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
        return self.place == place() and not hidden(self.pid)

    def running(self) -> bool:
        """Whether the process of a holder here still runs."""
        started = process_start(self.pid)
        return started is not None and abs(started - self.started) < 0.005  # half a tick

    def seems_alive(self) -> bool:
        """Whether it is alive, at one look: to show, not to decide, since clocks may differ."""
        return self.running() if self.here else abs(time.time() - self.heartbeat) < PATIENCE


_HOLDER = TypeAdapter(Holder)


def lease_files(folder: Location) -> list[Location]:
    """The lease files in a run folder, the holder's last."""
    return [folder / name for name in names(folder) if name.startswith(PREFIX)]


def read_holder(folder: Location, listed: Sequence[str] | None = None) -> Holder | None:
    """Who holds the run in `folder`; None if nobody does. `listed`: its names, if known."""
    for _ in range(_TRIES):
        present = names(folder) if listed is None else listed
        found = [folder / one for one in present if one.startswith(PREFIX)]
        if not found:
            return None
        data = read_bytes(found[-1], RECORD_BYTES)
        if data is not None:
            return parse_holder(data, lease_number(found[-1]))
        listed = None  # replaced or released in the meantime
        time.sleep(0.05)  # a network file system may list a deleted file for a while
    return None


def parse_holder(data: bytes, number: int) -> Holder:
    """The holder in a lease file; an unknown one if the file is damaged."""
    try:
        holder = _HOLDER.validate_json(data, strict=True)
        epoch_seconds(holder.heartbeat)
    except ValueError:
        return Holder("", number, "unknown", "", 0, 0.0, 0, 0.0)
    return holder


def lease_number(path: Location) -> int:
    """The number in a lease file's name; 0 if there is none."""
    digits = path.name.removeprefix(PREFIX).removesuffix(".json")
    return int(digits) if digits.isdecimal() else 0
