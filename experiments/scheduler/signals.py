"""What pauses a sweep: signals, of which the second ends it at once, and the end of its time."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from experiments.errors import UserError

#: Sent by schedulers before a job's end, and where a terminal was closed. By default a process ends
#: of them at once.
WARNINGS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
#: Within this time a further signal is the same one: `timeout`, Slurm and shells send theirs to a
#: process and to its group.
SAME_SECONDS = 1.0
#: How long runs have to save a checkpoint before they are ended. In a store they look less often
#: whether they are to pause, and upload the checkpoint.
GRACE_SECONDS, REMOTE_GRACE_SECONDS = 30.0, 90.0
#: How often runs in progress are asked to pause, once a stop is requested.
_POLL_SECONDS = 0.2
#: How long after the grace period a run in this process is interrupted.
_INTERRUPT_SECONDS = 1.0
#: A sweep pauses so long before its time is over, in a short time a tenth of it: it takes the grace
#: period, and MLflow's last copy.
LEAD_SECONDS, REMOTE_LEAD_SECONDS = 120.0, 180.0
#: A Slurm job's end, in seconds since 1970.
JOB_END = "SLURM_JOB_END_TIME"
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = r"(\d{1,9}(?:\.\d+)?)(d|h|min|m|s)"
_LONGEST = 366 * 86400.0


@dataclass(frozen=True)
class TimeLimit:
    """When a sweep pauses by itself, in seconds since 1970, and what for."""

    pause_at: float
    cause: str

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.pause_at))
        return f"pauses at {at}, in time for {self.cause}"


def time_limit(option: str | None, say: Callable[[str], None], remote: bool) -> TimeLimit | None:
    """What limits a sweep that starts now: `--time-limit`, or its Slurm job's end if it is sooner.

    `say` is told of an end that is not heeded. UserError if the option is no duration.
    """
    now, ends = time.time(), dict[str, float]()
    if option is not None:
        ends[f"--time-limit {option}"] = now + seconds(option)
    if job_end := os.environ.get(JOB_END):
        if re.fullmatch("[0-9]{1,12}", job_end) and now < int(job_end) < now + _LONGEST:
            ends["the end of the Slurm job"] = float(job_end)
        else:
            say(f"{JOB_END}={job_end} is no end to come of a job, and not heeded")
    if not ends:
        return None
    cause = min(ends, key=lambda one: ends[one])
    lead = REMOTE_LEAD_SECONDS if remote else LEAD_SECONDS
    return TimeLimit(ends[cause] - min(lead, (ends[cause] - now) / 10), cause)


def seconds(text: str) -> float:
    """`4h`, `1h30m`, `90 min`, `1-12:00:00` or `02:30:00` in seconds. UserError for others."""
    clock = re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)", text, re.ASCII)
    plain = text.replace(" ", "")
    if clock:
        plain = "".join(
            f"{one or 0}{unit}" for one, unit in zip(clock.groups(), "dhms", strict=True)
        )
    parts = re.findall(_PART, plain, re.ASCII)
    total = sum(float(number) * _UNITS[unit[0]] for number, unit in parts)
    if not re.fullmatch(f"({_PART})+", plain, re.ASCII) or not 0 < total <= _LONGEST:
        raise UserError(
            f"--time-limit {text!r}; give a duration of at most 366 days, e.g. 4h, 1h30m, 90m or "
            "02:30:00"
        )
    return total


@contextmanager
def warnings_kept_from_children() -> Iterator[None]:
    """Processes started meanwhile (Ray's) are not ended by `WARNINGS`, which their group gets too.

    Blocked signals stay so in a new process; here they are received later, or by another thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopNow(BaseException):
    """The sweep ends wherever it is. Not an Exception, so that nothing handles it on the way."""


class StopRequest:
    """Whether a sweep is to stop (`requested`), and by which signal; use as a context manager.

    A thread calls `pause`, which asks the runs to save and end: the main thread may be computing.
    It also sees when the time is up that `limit` gives (`time_is_up`).
    """

    def __init__(
        self,
        pause: Callable[[], None],
        say: Callable[[str], None],
        remote: bool = False,
        limit: TimeLimit | None = None,
    ) -> None:
        self.signal: signal.Signals | None = None
        self.limit, self.time_is_up = limit, False
        self._pause, self._say = pause, say
        self._grace = REMOTE_GRACE_SECONDS if remote else GRACE_SECONDS
        # Plain values: in a signal handler, this thread may already hold an event's lock.
        self.requested, self._deadline, self._ignore = False, float("inf"), False
        self._received, self._interrupting = 0.0, False
        self._done = threading.Event()
        self._pid = os.getpid()
        self._handlers_before: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._pause_runs, daemon=True, name="stop")

    @property
    def from_outside(self) -> bool:
        """Whether a signal, or the end of the time, asked the sweep to stop."""
        return self.signal is not None or self.time_is_up

    @property
    def expired(self) -> bool:
        """Whether the grace period is over."""
        return time.monotonic() > self._deadline

    def request(self) -> None:
        """Ask the sweep to stop."""
        self._deadline = time.monotonic() + self._grace
        self.requested = True

    def install(self) -> None:
        """Install the signal handlers (again, if a library replaced them); main thread only."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the sweep goes on without a terminal
            before = signal.signal(number, self._handle)
            self._handlers_before.setdefault(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a data loader's process, which inherited this handler
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self._ignore:
            return
        now = time.monotonic()
        if self._interrupting:
            raise StopNow
        if self.signal is not None:
            if now > self._received + SAME_SECONDS:
                raise StopNow
            return
        self.signal, self._received = signal.Signals(number), now
        if not self.requested:
            self.request()

    def _pause_runs(self) -> None:
        announced = False
        while not self._done.wait(_POLL_SECONDS):
            if self.limit is not None and not self.requested and time.time() > self.limit.pause_at:
                self.time_is_up = True
                self.request()
            if not self.requested:
                continue
            self._pause()
            if not announced:
                why = f", in time for {self.limit.cause}" if self.limit and self.time_is_up else ""
                self._say(f"stopping{why}: the running runs save a checkpoint (once more: at once)")
                announced = True
            # The main thread checks the deadline itself, unless it is computing a run.
            if self.from_outside and time.monotonic() > self._deadline + _INTERRUPT_SECONDS:
                main = threading.main_thread().ident
                assert main is not None
                self._interrupting = True
                signal.pthread_kill(main, signal.SIGTERM)  # also interrupts a blocking call
                return

    def close(self) -> None:
        """Ignore signals, and ask no run to pause: another sweep may hold it by then."""
        self._ignore = True
        self._done.set()
        self._thread.join()

    def __enter__(self) -> StopRequest:
        self._thread.start()
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for number, before in self._handlers_before.items():
            # Whoever sent one may send more, and the summary is still to come.
            spared = self.signal is not None and number in WARNINGS and before is signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if spared else before)
