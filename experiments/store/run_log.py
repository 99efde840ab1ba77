"""A line in a run's own log, written by its sweep between two attempts."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from experiments.errors import LeaseLost, StorageError
from experiments.store.append_file import AppendFile
from experiments.store.lease import Lease
from results.reading.run_folder import RunFolder

log = logging.getLogger(__name__)


def note(folder: RunFolder, lease: Lease, text: str) -> None:
    """Append `text` with the time. A log that cannot be written is no reason to stop."""
    log.info("%s: %s", folder.run_id, text)
    with suppress(OSError, StorageError, LeaseLost):
        file = AppendFile(folder.log, lease.check)
        try:
            with file.local.open("a") as lines:
                lines.write(f"{datetime.now():%Y-%m-%d %H:%M:%S},000 INFO {__name__}: {text}\n")
        finally:
            file.close()
