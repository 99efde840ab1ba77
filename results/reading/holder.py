"""Who works on a run, as its lease files say: `lease-000001.json`, the highest number holds.

Dead or alive at one look: seen from the same place (machine, boot and process namespace) a lease
lives as long as its process does; seen from elsewhere, while its heartbeat is recent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from results.reading.location import Location, names, read_bytes
from results.reading.metrics_log import epoch_seconds
from results.reading.process_id import hidden, place, process_start

#: Seconds without a heartbeat after which a holder elsewhere counts as dead.
PATIENCE = 60.0
#: How lease files begin.
PREFIX = "lease-"
#: How often a lease file that vanished while it was read is looked for again.
_LOOKS = 20


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `beat` counts heartbeats; `heartbeat` in epoch seconds, by the clock of
    the holder's machine; `started` is its process's `process_start`."""

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
        """Of a holder here: whether its process is still there."""
        started = process_start(self.pid)
        return started is not None and abs(started - self.started) < 0.005  # half a tick

    def seems_alive(self) -> bool:
        """At one look: from elsewhere by the clocks, which may be off. To show, not to decide."""
        return self.running() if self.here else abs(time.time() - self.heartbeat) < PATIENCE


def lease_files(folder: Location) -> list[Location]:
    """The lease files in a run folder, the holder's last."""
    return [folder / name for name in names(folder) if name.startswith(PREFIX)]


def read_holder(folder: Location, listed: Sequence[str] | None = None) -> Holder | None:
    """Who holds the run in `folder`; None if nobody does. `listed`: its names, if known already."""
    for _ in range(_LOOKS):
        present = names(folder) if listed is None else listed
        found = [folder / one for one in present if one.startswith(PREFIX)]
        if not found:
            return None
        data = read_bytes(found[-1])
        if data is not None:
            return parse_holder(data, lease_number(found[-1]))
        listed = None  # replaced or released since: look again
        time.sleep(0.05)  # a network's file system may show a deleted name a little longer
    return None


def parse_holder(data: bytes, number: int) -> Holder:
    """The holder in a lease file; one of unknown origin where the file is damaged."""
    with suppress(ValueError, TypeError):
        holder = Holder(**json.loads(data))
        epoch_seconds(holder.heartbeat)
        whole = (holder.number, holder.pid, holder.beat)
        texts = (holder.owner, holder.host, holder.place)
        if (
            all(type(one) is int for one in whole)
            and all(isinstance(one, str) for one in texts)
            and isinstance(holder.started, int | float)
        ):
            return holder
    return Holder("", number, "unknown", "", 0, 0.0, 0, 0.0)


def lease_number(path: Location) -> int:
    """The number in a lease file's name; 0 if there is none."""
    digits = path.name.removeprefix(PREFIX).removesuffix(".json")
    return int(digits) if digits.isdecimal() else 0
