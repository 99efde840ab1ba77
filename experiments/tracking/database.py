"""MLflow's database where it is a file: made whole or not at all, and noticed when it is gone."""

from __future__ import annotations

import sqlite3
import urllib.parse
from pathlib import Path

from experiments.files import create_whole
from experiments.leftovers import clear_abandoned


def sqlite_uri(path: Path) -> str:
    """The tracking URI of a SQLite file: absolute, since UI and workers run elsewhere."""
    return "sqlite:///" + urllib.parse.quote(str(path.absolute()), safe="/ ")


def sqlite_file(uri: str) -> Path | None:
    """The file of a `sqlite:///` URI; None for any other, and for one in memory."""
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:  # no address at all: who asks the tracker is told
        return None
    name = urllib.parse.unquote(parts.path.removeprefix("/"))
    if not parts.scheme.startswith("sqlite") or parts.netloc or name in ("", ":memory:"):
        return None
    return Path(name)


class SqliteFile:
    """The file behind a tracking URI, `artifacts` being where its first experiments keep theirs.

    MLflow fills a new database in many steps, and one that is left in the middle of them stays
    unusable. So a missing one is made aside, and appears only when it is whole.
    """

    def __init__(self, uri: str, path: Path, artifacts: str) -> None:
        self.uri, self.path, self.artifacts = uri, path, artifacts
        self._known: int | None = None
        clear_abandoned(path.parent)

    def ensure(self) -> bool:
        """Have it there. True if it is another file than the last time, empty or not.

        OutputUnusable if it cannot be made.
        """
        if not self.path.exists():
            create_whole(self.path, self._fill)
        now = self.path.stat().st_ino
        if now == self._known:
            return False
        self._known = now
        self._connect(self.uri)  # a connection that is still open leads to the file before
        return True

    def _fill(self, path: Path) -> None:
        self._connect(sqlite_uri(path))
        # What SQLite keeps beside the file is part of it, and does not come along.
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode=DELETE")
        finally:
            connection.close()

    def _connect(self, uri: str) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(uri, self.artifacts).engine.dispose()
