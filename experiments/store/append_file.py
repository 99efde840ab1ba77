"""A file to append to while others read it, also in an object store, which cannot append."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from experiments.errors import LeaseLost, StorageError
from experiments.store.files import sync, write_whole
from results.reading.location import Location, read_bytes, scratch_folder, stamp, storage_errors
from tcclip.text_files import check_regular

log = logging.getLogger(__name__)

#: Seconds between uploads to an object store.
UPLOAD_SECONDS = 15.0


class AppendFile:
    """`path` as a file to append to: write to `local`, which is `path` itself on a file system.

    For a store `local` is a copy, uploaded as a whole every `UPLOAD_SECONDS` if it changed, by
    `publish`, and by `close`. `check` is called before: LeaseLost if another process has the run.
    StorageError for what is no regular file: writing to a pipe would block.
    """

    def __init__(self, path: Location, check: Callable[[], None]) -> None:
        self.path, self._check = path, check
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if isinstance(path, Path):
            with storage_errors(path), suppress(FileNotFoundError):
                check_regular(path)
            self.local = path
            return
        data = read_bytes(path)
        self.local = scratch_folder() / path.name
        if data is not None:
            self.local.write_bytes(data)
        self._uploaded = stamp(self.local)
        self._thread = threading.Thread(target=self._upload_regularly, daemon=True, name="upload")
        self._thread.start()

    def publish(self) -> None:
        """Make everything written so far safe from a power loss and visible to others."""
        if self._thread is None:
            with storage_errors(self.path), suppress(FileNotFoundError):  # nothing written yet
                sync(self.local)
            return
        with self._lock:
            now = stamp(self.local)
            if now != self._uploaded:
                write_whole(self.path, lambda to: shutil.copyfile(self.local, to), self._check)
                self._uploaded = now

    def close(self) -> None:
        """Upload what is left, and stop. A store out of reach is only logged."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._try_upload()
            shutil.rmtree(self.local.parent, ignore_errors=True)

    def _upload_regularly(self) -> None:
        seconds = 1.0  # the first lines are soon visible
        while not self._stop.wait(min(seconds, UPLOAD_SECONDS)):
            self._try_upload()
            seconds *= 2

    def _try_upload(self) -> None:
        try:
            self.publish()
        except (StorageError, LeaseLost) as error:
            log.warning("%s could not be uploaded: %s", self.path, error)
