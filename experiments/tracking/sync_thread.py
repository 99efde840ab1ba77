"""The thread that keeps MLflow's copy up to date while a sweep runs. It never fails the sweep."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from experiments.grid.spec import RunSpec
from experiments.store.ledger import Ledger
from experiments.tracking.connection import redact_url, sync_command
from experiments.tracking.mirror import Mirror, StillCopying
from experiments.tracking.sync_errors import Incomplete
from experiments.worker.provenance import git_state

SYNC_SECONDS = 5.0
#: How long the end of a sweep waits for the last copy. The rest is for `tcclip ui --sync`.
END_SECONDS = 30.0


@dataclass
class Follower:
    """Mirrors `specs` until closed, and then settles what nobody works on any more.

    A context manager. `warn` is called once if the tracker cannot be written, once if some runs
    cannot be copied, and at the end if it took too long; then `gave_up`, and nobody should wait
    for it again.
    """

    ledger: Ledger
    uri: str
    specs: Sequence[RunSpec]
    warn: Callable[[str], None]
    gave_up: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    #: What was said already: each kind once.
    _said: set[str] = field(default_factory=set)

    def __enter__(self) -> Follower:
        self._thread = threading.Thread(target=self._run, daemon=True, name="mlflow")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        begin = time.monotonic()
        # Whoever interrupts waits no longer; what is left to say about the runs is still said.
        with suppress(KeyboardInterrupt):
            # A join that is interrupted takes the thread for stopped (Python 3.11).
            self._done.wait(END_SECONDS)
        if self._done.is_set():
            self._thread.join()
        else:
            self.gave_up = True
            self._say(
                "late",
                f"MLflow at {redact_url(self.uri)} is not done after "
                f"{time.monotonic() - begin:.0f} s; `{self._later}` copies the rest",
            )

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._done.set()

    def _follow(self) -> None:
        mirror: Mirror | None = None
        last = False
        while not last:
            last = self._stop.wait(SYNC_SECONDS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # mlflow's own deprecations are not the user's
                try:
                    mirror = mirror or Mirror(self.ledger, self.uri, git_state()[0])
                    self._copy(mirror, last)
                except Exception as error:  # noqa: BLE001
                    # Whatever the tracker does, the runs and their files go on; said once. What
                    # was known of it may be wrong now: it may come back empty.
                    mirror = None
                    self._complain(error)

    def _copy(self, mirror: Mirror, last: bool) -> None:
        try:
            mirror.sync(self.specs, wait=END_SECONDS / 2 if last else 0.0)
        except (Incomplete, StillCopying) as error:  # the tracker is there, and has the others
            self._say(
                "runs",
                f"not all is in MLflow yet: {error}\n`{self._later}` copies the rest",
            )
        if last:
            try:
                mirror.settle()
            except Incomplete as error:
                self._say("states", f"MLflow may show runs as running that are not: {error}")

    def _complain(self, error: Exception) -> None:
        self.gave_up = self._stop.is_set()
        self._say(
            "down",
            f"MLflow at {redact_url(self.uri)} cannot be written ({type(error).__name__}: "
            f"{redact_url(str(error))}); runs go on, and `{self._later}` will copy them later",
        )

    @property
    def _later(self) -> str:
        return sync_command(self.ledger.out)

    def _say(self, kind: str, text: str) -> None:
        # Nobody waits for it any more once it is late, and the process may be at its end.
        if not {kind, "late"} & self._said:
            self._said.add(kind)
            self.warn(text)
