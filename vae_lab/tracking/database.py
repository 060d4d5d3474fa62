"""The file of an SQLite store: looked at before MLflow is asked, and made whole or not at all."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from vae_lab.files import DamagedError, cache_folder, read_sealed, write_sealed
from vae_lab.tracking.address import client_address, file_address

BUSY_SECONDS = 20.0  # to wait for a writer
DEFAULT_EXPERIMENT = "0"  # the one that MLflow makes; its runs' artifacts lie in a folder of this name


def open_database(
    file: Path, mode: Literal["ro", "rw", "rwc"] = "ro", wait: float = BUSY_SECONDS
) -> closing[sqlite3.Connection]:
    """Returns an SQLite database, closed at the end of a `with`; each statement is a transaction of its own.

    A process that was killed in the middle of a commit leaves its journal, and nobody can read before SQLite
    has undone that commit: this is done here also for who only reads.

    Args:
        file: Where it lies.
        mode: "ro" only reads, "rw" also writes, "rwc" also makes a file that is not there.
        wait: Seconds to wait for whoever writes to it.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    address = f"file:{quote(str(file))}?mode="
    connection = sqlite3.connect(f"{address}{mode}", uri=True, timeout=wait, isolation_level=None)
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        connection.close()
        if mode != "ro" or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise
        connection = sqlite3.connect(f"{address}rw", uri=True, timeout=wait, isolation_level=None)
    except sqlite3.Error:
        connection.close()
        raise
    return closing(connection)


def check_database(file: Path) -> None:
    """Asks a file whether it is a database, if it is there; MLflow would go on asking for minutes.

    Raises:
        sqlite3.Error: It is none, or cannot be opened.
    """
    if file.exists():
        with open_database(file):
            pass


def is_empty(file: Path) -> bool:
    """Returns whether no database has been made in this file; whoever is about to may have opened it."""
    return not file.exists() or file.stat().st_size == 0


def refuses_writes(file: Path) -> str:
    """Returns why a database can only be read; empty if it can be written.

    Nothing is left of the attempt. Permissions say too little: a file may lie on a disk that is read-only, or
    in a folder that takes no journal.
    """
    try:
        with open_database(file, "rw", wait=0) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if (error.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return str(error)
    return ""  # it may be locked, which passes


def create_database(file: Path, folder: str) -> None:
    """Makes an empty store, whose artifacts go to a folder beside it. The caller holds its lock.

    A process that is killed meanwhile must not leave some of the tables under the store's name, for MLflow
    cannot go on with them. Another program may make its own at the same time, such as a notebook: then those
    are kept.
    """
    scratch = file.with_name(f".{file.name}.new")
    _remove(scratch)  # of an earlier attempt
    try:
        scratch.write_bytes(_template(scratch))
        with open_database(scratch, "rw") as connection:
            moved = "UPDATE experiments SET artifact_location = ?, creation_time = ?, last_update_time = ?"
            now = time.time_ns() // 1_000_000
            connection.execute(moved, ((file.parent / folder / DEFAULT_EXPERIMENT).as_uri(), now, now))
        _fill(file, scratch)
    finally:
        _remove(scratch)


def _template(scratch: Path) -> bytes:
    """Returns the bytes of a store in which nothing is, as this version of MLflow makes it.

    MLflow makes its tables by some fifty migrations, which take longer than to train a small run: they are
    made once for all stores of a user, or every time where the cache cannot be written; in `scratch`, which
    is not there afterwards.
    """
    from mlflow.version import VERSION  # who only reads a store goes without MLflow

    template = cache_folder("stores") / f"mlflow-{VERSION}.db"
    try:
        return read_sealed(template)
    except (FileNotFoundError, DamagedError):
        content = _migrated(scratch)
    with suppress(OSError):
        template.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(template, content)
    return content


def _migrated(scratch: Path) -> bytes:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # a server's store goes without

    artifacts = scratch.parent.as_uri()  # of the default experiment, whose place is written anew
    store = SqlAlchemyStore(client_address(file_address(scratch)), artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    content = scratch.read_bytes()
    _remove(scratch)
    return content


def _remove(file: Path) -> None:
    for rest in ("", "-journal", "-wal", "-shm"):
        file.with_name(file.name + rest).unlink(missing_ok=True)


def _fill(file: Path, scratch: Path) -> None:
    """Copies a database into a file that is empty or not there, in one step for whoever else has it open."""
    with open_database(file, "rwc") as target, open_database(scratch) as source:
        target.execute("PRAGMA locking_mode = EXCLUSIVE")  # the lock that is taken now is kept
        target.execute("BEGIN EXCLUSIVE")
        (tables,) = target.execute("SELECT count(*) FROM sqlite_master").fetchone()
        target.execute("COMMIT")
        if not tables:
            source.backup(target)
