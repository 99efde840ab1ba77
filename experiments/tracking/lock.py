"""One process at a time makes copies: what two find missing at once would be there twice."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from pathlib import Path

from experiments.errors import LeaseHeld, StorageError
from experiments.store.lease import Lease, Watch, claim
from results.reading.location import Location

#: After so many seconds the turn is offered to who waits for it, and for so many more.
HOLD, OFFER = 5.0, 0.75
#: How a place answers that may only be read.
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR)


class NotOurTurn(Exception):
    """Another process makes copies just now, or whether one does cannot be said: a little later
    there may be nothing left to make."""


class Turn:
    """The turn to make copies of an output folder's runs: taken when it is needed, until `end`.

    A lease like those of runs, in a folder of its own, so that it passes on from whoever is killed.
    """

    def __init__(self, out: Location) -> None:
        self._folder = out / "mlflow-turn"
        self._watch = Watch()
        self._lease: Lease | None = None
        self._since = 0.0

    def take(self) -> None:
        """Take it, if this process has not got it; NotOurTurn while another has, or nobody knows.

        Who may only read the runs copies them to a tracker of their own, and needs no turn.
        """
        if self._lease is not None:
            return
        try:
            self._lease = claim(self._folder, alive=self._watch.alive)
        except LeaseHeld as error:
            raise NotOurTurn(f"another process makes copies ({error})") from error
        except StorageError as error:
            if not _read_only(error.__cause__):
                why = f"whether another process makes copies cannot be told: {error}"
                raise NotOurTurn(why) from error
        self._since = time.monotonic()

    def offer(self) -> None:
        """Between two runs: whoever waits for the turn gets it, if it was held for long."""
        if self._lease is not None and time.monotonic() - self._since > HOLD:
            self.end()
            time.sleep(OFFER)

    def end(self) -> None:
        """Let others have it."""
        if self._lease is None:
            return
        self._lease.release()
        self._lease = None
        if isinstance(self._folder, Path):
            with suppress(OSError):  # not empty: another process's turn
                self._folder.rmdir()


def _read_only(cause: BaseException | None) -> bool:
    """Whether a place refused to be written; a store's client has no error number for that."""
    if isinstance(cause, PermissionError):
        return True
    return isinstance(cause, OSError) and cause.errno in _READ_ONLY
