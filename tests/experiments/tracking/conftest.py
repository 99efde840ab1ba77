"""MLflow's tables are made once and copied: its migrations take two seconds a database."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy
from mlflow.store.db import utils


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All tables of an empty database, as SQL."""
    path = tmp_path_factory.mktemp("mlflow") / "tables.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    utils._initialize_tables(engine)
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump())


@pytest.fixture(autouse=True)
def _copied_tables(tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(engine: sqlalchemy.Engine) -> None:
        with closing(engine.raw_connection()) as connection:
            connection.cursor().executescript(tables)

    monkeypatch.setattr(utils, "_initialize_tables", copy)
