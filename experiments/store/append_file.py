"""A file that grows while others read it, also where files cannot be appended to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from experiments.errors import LeaseLost, StorageError
from experiments.store.files import sync, write_whole
from results.reading.location import Location, read_bytes, scratch, storage_error

log = logging.getLogger(__name__)

#: How long what was appended may wait before others see it, in an object store.
UPLOAD_SECONDS = 15.0


class AppendFile:
    """`path` as a file to append to, `local`: the same where it is local.

    For a store `local` is a copy that is uploaded whole: every `UPLOAD_SECONDS` if it changed, by
    `publish`, and at the end. `check` is called before each upload; it raises LeaseLost where the
    file is another process's by now.
    """

    def __init__(self, path: Location, check: Callable[[], None]) -> None:
        self.path, self._check = path, check
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._published: tuple[int, int] | None = None
        self._resources = ExitStack()
        if isinstance(path, Path):
            self.local = path
            return
        with ExitStack() as stack:  # closed here only if the store cannot be read
            self.local = stack.enter_context(scratch()) / path.name
            data = read_bytes(path)
            if data is not None:
                self.local.write_bytes(data)
            self._resources = stack.pop_all()
        self._published = self._state()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="upload")
        self._thread.start()

    def publish(self) -> None:
        """Let others see everything so far, a loss of power included. StorageError; LeaseLost
        as `check` says."""
        if self._thread is None:
            self._sync()
            return
        with self._lock:
            state = self._state()
            if state != self._published:
                data = self.local.read_bytes()  # it may grow while it is uploaded
                write_whole(self.path, lambda temporary: _write(temporary, data), self._check)
                self._published = state

    def _sync(self) -> None:
        try:
            sync(self.local)
        except FileNotFoundError:
            return  # nothing was written yet
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Upload what is left, and end; a store out of reach is logged, since nothing waits."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._quietly()
        self._resources.close()

    def _follow(self) -> None:
        seconds = 1.0  # a beginning is soon seen
        while not self._stop.wait(min(seconds, UPLOAD_SECONDS)):
            self._quietly()
            seconds *= 2

    def _quietly(self) -> None:
        """`publish` where a failure may wait: for the next time, or for the next checkpoint."""
        try:
            self.publish()
        except (StorageError, LeaseLost) as error:
            log.warning("%s is behind: %s", self.path, error)

    def _state(self) -> tuple[int, int] | None:
        """What changes whenever the local file does; None before there is one."""
        if not self.local.exists():
            return None
        found = self.local.stat()
        return found.st_size, found.st_mtime_ns


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
