"""Ctrl-C and SIGTERM: the first asks a sweep to end, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

#: How long runs have to save a checkpoint; an evaluation that takes longer is given up. In a store
#: they look less often whether they are to pause, and upload it.
GRACE_SECONDS, REMOTE_GRACE_SECONDS = 30.0, 90.0
#: How often it is looked whether runs are to be asked to pause.
_ASK_SECONDS = 0.2
#: How much later than the grace a run in this process is interrupted.
_TELL_SECONDS = 1.0


class AtOnce(BaseException):
    """The sweep is to end wherever it stands. No Exception: nothing may handle it on the way."""


class Stop:
    """Whether a sweep is to end, and why; use as a context manager.

    `pause` asks the runs in progress to save and end. A thread calls it, since the main thread may
    be computing a run. Signals are listened to in the main thread alone. `remote`: runs are in a
    store.
    """

    def __init__(
        self, pause: Callable[[], None], say: Callable[[str], None], remote: bool = False
    ) -> None:
        self.signal: signal.Signals | None = None
        self._pause, self._say, self._remote = pause, say, remote
        # Plain values: a signal handler may find the lock of an event taken by its own thread.
        self._asked, self._deadline = False, float("inf")
        self._over, self._deaf = threading.Event(), False
        self._pid = os.getpid()
        self._before: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._follow, daemon=True, name="stop")

    @property
    def asked(self) -> bool:
        """Whether nothing more is to be started."""
        return self._asked

    @property
    def expired(self) -> bool:
        """Whether the runs had their time to end by themselves."""
        return time.monotonic() > self._deadline

    def ask(self) -> None:
        """Let the sweep end."""
        grace = REMOTE_GRACE_SECONDS if self._remote else GRACE_SECONDS
        self._deadline = time.monotonic() + grace
        self._asked = True

    def listen(self) -> None:
        """Take the signals; again after a library took them for itself."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a loader's process, which inherited this handler
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self._deaf:
            return
        if self.signal is not None:
            raise AtOnce
        self.signal = signal.Signals(number)
        if not self.asked:
            self.ask()

    def _follow(self) -> None:
        said = False
        while not self._over.wait(_ASK_SECONDS):
            if not self._asked:
                continue
            self._pause()
            if not said:
                self._say("stopping: the running runs save a checkpoint (once more: at once)")
                said = True
            # Between two runs the sweep sees that itself; within one, it has to be told.
            if self.signal is not None and time.monotonic() > self._deadline + _TELL_SECONDS:
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, self.signal)  # also out of a call that waits
                return

    def __enter__(self) -> Stop:
        self._thread.start()
        self.listen()
        return self

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """Runs are over, and cleaning up must not be cut short: signals change nothing."""
        self._deaf = True
        self._over.set()
        self._thread.join()  # it must not ask a run to pause that is another sweep's by then
        try:
            yield
        finally:
            self._deaf = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        for number, before in self._before.items():
            signal.signal(number, before)
