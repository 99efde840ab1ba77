"""The thread that keeps MLflow's copy up to date while a sweep runs. It never fails the sweep."""

from __future__ import annotations

import platform
import threading
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from experiments.store.ledger import Ledger
from experiments.tracking.connection import redact_url, sync_command
from experiments.tracking.mirror import Incomplete, Mirror

SYNC_SECONDS = 5.0
#: How long the end of a sweep waits for the last copy. The rest is for `tcclip ui --sync`.
END_SECONDS = 30.0
_LATE = "is not up to date yet"


@dataclass
class SyncThread:
    """Copies these runs to MLflow until it is closed, and then what the sweep's end left of others.

    A context manager. `warn` is called once if the tracker cannot be written, once if some runs
    cannot be copied, and once if the end took too long. `gave_up`: the copy is not complete, and
    nobody should wait for the tracker again.
    """

    ledger: Ledger
    uri: str
    run_ids: Collection[str]
    warn: Callable[[str], None]
    gave_up: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True, name="mlflow")

    def __enter__(self) -> SyncThread:
        # Known from here on. MLflow would ask `uname` in the thread: a loader process that is
        # forked meanwhile keeps the pipe open, and all who ask wait until it ends.
        platform.platform()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # After an interrupt nobody wants to wait; and is_alive() would be wrong (Python 3.11).
        with suppress(KeyboardInterrupt):
            self._thread.join(END_SECONDS)
            if not self._thread.is_alive():
                return
        self.gave_up = True
        self._warn(_LATE)

    def _run(self) -> None:
        mirror: Mirror | None = None
        last = False
        while not last:
            last = self._stop.wait(SYNC_SECONDS)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # mlflow's own deprecations
                    mirror = mirror or Mirror(self.ledger, self.uri)
                    mirror.sync(self.run_ids, last)
            except Incomplete as error:
                self._warn("lacks some runs", f":\n{error}")
            except Exception as error:  # noqa: BLE001
                # Whatever the tracker does, the runs go on. It may come back empty: start anew.
                mirror = None
                self.gave_up = last
                self._warn("cannot be written", f" ({type(error).__name__}: {error})")

    def _warn(self, what: str, why: str = "") -> None:
        """Each kind once; nothing after the end, when the process may be about to exit."""
        if not {what, _LATE} & self._warned:
            self._warned.add(what)
            command = sync_command(self.ledger.out)
            told = f"MLflow at {redact_url(self.uri)} {what}{redact_url(why)}"
            self.warn(f"{told}\nruns go on, and `{command}` copies the rest later")
