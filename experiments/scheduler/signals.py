"""Ctrl-C and SIGTERM: the first signal asks a sweep to stop, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

#: How long runs have to save a checkpoint before they are ended. In a store they look less often
#: whether they are to pause, and upload the checkpoint.
GRACE_SECONDS, REMOTE_GRACE_SECONDS = 30.0, 90.0
#: How often runs in progress are asked to pause, once a stop is requested.
_POLL_SECONDS = 0.2
#: How long after the grace period a run in this process is interrupted.
_INTERRUPT_SECONDS = 1.0


class StopNow(BaseException):
    """The sweep ends wherever it is. Not an Exception, so that nothing handles it on the way."""


class StopRequest:
    """Whether a sweep is to stop (`requested`), and by which signal; use as a context manager.

    A thread calls `pause`, which asks the runs to save and end: the main thread may be computing.
    """

    def __init__(
        self, pause: Callable[[], None], say: Callable[[str], None], remote: bool = False
    ) -> None:
        self.signal: signal.Signals | None = None
        self._pause, self._say = pause, say
        self._grace = REMOTE_GRACE_SECONDS if remote else GRACE_SECONDS
        # Plain values: in a signal handler, this thread may already hold an event's lock.
        self.requested, self._deadline, self._ignore = False, float("inf"), False
        self._done = threading.Event()
        self._pid = os.getpid()
        self._handlers_before: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._pause_runs, daemon=True, name="stop")

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
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, self._handle)
            self._handlers_before.setdefault(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a data loader's process, which inherited this handler
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self._ignore:
            return
        if self.signal is not None:
            raise StopNow
        self.signal = signal.Signals(number)
        if not self.requested:
            self.request()

    def _pause_runs(self) -> None:
        announced = False
        while not self._done.wait(_POLL_SECONDS):
            if not self.requested:
                continue
            self._pause()
            if not announced:
                self._say("stopping: the running runs save a checkpoint (once more: at once)")
                announced = True
            # The main thread checks the deadline itself, unless it is computing a run.
            if self.signal is not None and time.monotonic() > self._deadline + _INTERRUPT_SECONDS:
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, self.signal)  # also interrupts a blocking call
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
            signal.signal(number, before)
