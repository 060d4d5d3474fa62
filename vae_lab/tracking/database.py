"""The file of an SQLite store: looked at before MLflow is asked, and made whole or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def check_database(file: Path) -> None:
    """Asks a file whether it is a database, if it is there; MLflow would go on asking for minutes.

    Raises:
        sqlite3.Error: It is none, or cannot be opened.
    """
    if file.exists():
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA schema_version")


def create_database(file: Path) -> None:
    """Makes an empty store. The caller holds its lock.

    MLflow takes seconds to make the tables and cannot go on with some of them: a process that is killed
    meanwhile must not leave them under the store's name.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # a server's store goes without

    scratch = file.with_name(f".{file.name}.new")
    for rest in ("", "-journal", "-wal", "-shm"):  # of an earlier attempt
        scratch.with_name(scratch.name + rest).unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{scratch}", (file.parent / "mlruns").as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()
    scratch.replace(file)
