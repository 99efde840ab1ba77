"""Where the tracker of an output folder is, and its SQLite file; URLs without passwords."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sqlite3
import urllib.parse
from contextlib import closing
from pathlib import Path

from experiments.errors import StorageError
from experiments.store.files import clear_abandoned, create_bytes
from results.reading.location import Location, location, scratch

LOCAL_UI = "http://127.0.0.1:5000"
#: The folder of artifacts beside a database of ours.
ARTIFACTS = "mlflow-artifacts"

#: Names of query parameters whose values are secret.
_SECRET = r"(?i:password|passwd|pwd|token|secret|api_?key|access_?key|key)"
#: What ends a URL in a text, inside a set of a regular expression.
_END = r"\s\"'<>"


def default_uri(out: Location) -> str:
    """$MLFLOW_TRACKING_URI, or else a database in the output folder's `home`.

    The path of a SQLite file is made absolute: `tcclip ui` serves it from another folder.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(home(out) / "mlflow.db")
    file = sqlite_file(uri)
    return uri if file is None or file.is_absolute() else sqlite_uri(file)


def home(out: Location) -> Path:
    """The local folder for MLflow's copy of the runs of `out`, absolute; it may not exist yet.

    It is `out` itself, or a folder in the user's cache for a store, which cannot hold a database.
    """
    if isinstance(out, Path):
        return out.resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(str(out).encode()).hexdigest()[:8]
    return cache.resolve() / "tcclip" / f"{out.name}-{digest}"


def sqlite_uri(path: Path) -> str:
    """The tracking URI of a SQLite file, with its absolute path."""
    # MLflow makes the folder of the path as it is written here: so letters stay as they are.
    name = str(path.absolute())
    return "sqlite:///" + re.sub(
        r"[%?#\x00-\x1f]", lambda found: urllib.parse.quote(found[0]), name
    )


def sqlite_file(uri: str) -> Path | None:
    """The file of a `sqlite:///` URI; None for any other URI, and for a database in memory."""
    match = re.match(r"sqlite[^:/]*:///([^?#]+)", uri)
    name = urllib.parse.unquote(match[1]) if match else ":memory:"
    return None if name == ":memory:" else Path(name)


def open_database(uri: str, path: Path) -> None:
    """Create MLflow's database at `path`, the file of `uri`, if it is missing.

    MLflow creates its tables in many steps: one process that is killed halfway, or several at
    once, leave an unusable file. So the database is made elsewhere, and created here as a whole.
    StorageError if it cannot be created or read.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    clear_abandoned(path.parent)
    if not path.exists():
        with scratch() as folder:
            new = folder / path.name
            SqlAlchemyStore(sqlite_uri(new), path.parent.as_uri()).engine.dispose()
            create_bytes(path, new.read_bytes())
    # MLflow would try for minutes to read what is no database.
    advice = "move it away: the copy is made again from the run folders"
    if not path.is_file():
        raise StorageError(f"{path} is no file, so no database; {advice}")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:  # another process writes it now
            raise StorageError(f"{path} cannot be read as a database: {error}; {advice}") from error
    # Connections that MLflow kept may lead to a file that was deleted since.
    SqlAlchemyStore._get_or_create_engine(uri).dispose()


def redact_url(text: str) -> str:
    """`text` without the user names, passwords and keys of the URLs in it.

    urllib.parse would take what follows a slash in an unquoted password for a path.
    """
    text = re.sub(rf"(?<=://)(?:[^/?{_END}]*@|[^/?:{_END}]*:(?!\d+[/?])[^{_END}]*@)", "", text)
    return re.sub(rf"(?<=[?&])({_SECRET}=)[^&{_END}]*", r"\1...", text)


def sync_command(out: Location | str) -> str:
    """What brings MLflow's copy of the runs in `out` up to date, for a shell."""
    return shlex.join(["tcclip", "ui", "--sync", "--out", str(location(out))])
