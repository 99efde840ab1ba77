"""MLflow's database where it is a file: made whole or not at all, and noticed when it is gone."""

from __future__ import annotations

import sqlite3
import urllib.parse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from experiments.store.cleanup import clear_abandoned
from experiments.store.files import create_whole


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


#: How long another process may hold the database's lock.
LOCKED_SECONDS = 30.0
#: The folder of artifacts beside a database. No other name: by it a root is known as ours.
ARTIFACTS = "mlflow-artifacts"


class SqliteFile:
    """The file behind a tracking URI; `experiments`, by name, keep their artifacts beside it.

    MLflow fills a new database in many steps, and one that is left in the middle of them stays
    unusable. So a missing one is made aside, and appears only when it is whole. And MLflow keeps
    absolute addresses, so that a folder that was moved or copied would write into the old one:
    they are put right.

    `output_tag`: the tag of runs with the folder they were copied from.
    """

    def __init__(self, uri: str, path: Path, experiments: Sequence[str], output_tag: str) -> None:
        self.uri, self.path = uri, path
        self.artifacts = (path.resolve().parent / ARTIFACTS).as_uri()
        self._experiments, self._output_tag = experiments, output_tag
        self._known: int | None = None

    def ensure(self) -> bool:
        """Have it there. True if it is another file than the last time, empty or not.

        StorageError if it cannot be made.
        """
        if self._known is None:
            clear_abandoned(self.path.parent)
        if not self.path.exists():
            create_whole(self.path, self._fill)
        now = self.path.stat().st_ino
        if now == self._known:
            self.arrive()  # whoever has the folder under another path may have been here
            return False
        self._connect(self.uri)  # a connection that is still open leads to the file before
        self.arrive()
        self._known = now
        return True

    def arrive(self) -> None:
        """Have the addresses in the database lead to where it is now.

        Not where artifacts would be lost to it: those of a database that was moved without them.
        sqlite3.Error if it is not a database of MLflow's, or is busy for too long.
        """
        with closing(sqlite3.connect(self.path, timeout=LOCKED_SECONDS)) as connection, connection:
            marks = ", ".join("?" * len(self._experiments))
            found = connection.execute(
                f"SELECT DISTINCT artifact_location FROM experiments WHERE name IN ({marks})",
                self._experiments,
            )
            for (before,) in found.fetchall():
                ours = before.startswith("file:") and before.endswith("/" + ARTIFACTS)
                if ours and before != self.artifacts and not self._left(connection, before):
                    self._move(connection, before)

    def _left(self, connection: sqlite3.Connection, before: str) -> bool:
        """Whether some run's artifacts are at the address of before, and not beside the file."""
        runs = connection.execute(
            "SELECT substr(artifact_uri, length(?1) + 1) FROM runs "
            "WHERE substr(artifact_uri, 1, length(?1) + 1) = ?1 || '/'",
            (before,),
        )
        there, here = _folder(before), _folder(self.artifacts)
        return any(
            Path(there + rest).is_dir() and not Path(here + rest).is_dir()
            for (rest,) in runs.fetchall()
        )

    def _move(self, connection: sqlite3.Connection, before: str) -> None:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                f"WHERE {column} = ?2 OR substr({column}, 1, length(?2) + 1) = ?2 || '/'",
                (self.artifacts, before),
            )
        was, now = (_folder(one).removesuffix("/" + ARTIFACTS) for one in (before, self.artifacts))
        connection.execute(
            "UPDATE tags SET value = ? WHERE key = ? AND value = ?", (now, self._output_tag, was)
        )

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


def _folder(address: str) -> str:
    """The path of a file's URI."""
    return urllib.parse.unquote(urllib.parse.urlsplit(address).path)
