"""Where the trials of a search are kept: Optuna's storage, and who has a search in hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock, Timeout
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from vae_lab.errors import LabError, UserError
from vae_lab.files import state_folder
from vae_lab.jobs.job import UnderWayError
from vae_lab.tracking import file_address, sqlite_file, store_name
from vae_lab.tracking.address import engine_address, read_address, store_address
from vae_lab.tracking.delivery import first_line, why
from vae_lab.tracking.folders import unwritable

SETTING, VALID = "search.storage=", "sqlite:///FILE, postgresql://HOST/NAME"
OF_MLFLOW = {"experiments", "runs"}  # tables; beside them Optuna's would share the one that counts versions
PSYCOPG, IN_TIME = "postgresql+psycopg:", {"connect_timeout": 10}  # seconds
# Of the connection that holds a search, which is silent for hours: no end of it for that, and signs of life,
# so that the lock of a machine that lost its power is free after minutes.
SILENT = """
    SELECT set_config(name, CASE name WHEN 'tcp_keepalives_idle' THEN '60' ELSE '0' END, false)
    FROM pg_settings WHERE name IN ('idle_session_timeout', 'tcp_keepalives_idle')
"""


def storage_address(asked: str | None, store: str) -> str:
    """Returns the address of a search's storage: as asked for, or that of an SQLite file beside the store's.

    Args:
        asked: The config's `search.storage`.
        store: The address of the store of runs; a server's searches are kept in the lab's own folder.

    Raises:
        UserError: It is not the address of a database, or that of the store.

    Examples:
        >>> storage_address(None, "sqlite:////nowhere/mlflow.db")
        'sqlite:////nowhere/mlflow.searches.db'
    """
    if asked is None:
        file = sqlite_file(store) or state_folder("searches") / f"{_key(store_address(store))}.db"
        return file_address(Path(file).with_suffix(".searches.db"))
    address = read_address(asked, SETTING, VALID)
    if not address.uri.startswith(("postgresql", "sqlite")):
        raise UserError(f"{SETTING}{address.name}: not a database a search can use. Valid: {VALID}.")
    if address.name == store_address(store):
        raise _of_mlflow(asked)
    return address.uri


def opened(uri: str) -> RDBStorage:
    """Opens a storage, whose tables are made if they are not there.

    Raises:
        UserError: It is a database of MLflow's, or what it takes is not installed.
        LabError: It does not answer, or is no database.
    """
    address, options = engine_address(uri), dict[str, Any]()
    if address.startswith(PSYCOPG):
        if find_spec("psycopg") is None:
            raise UserError(
                f"{SETTING}{store_name(uri)}: needs psycopg: pip install 'vae-lab[search,server]'"
            )
        options = {"connect_args": IN_TIME, "pool_pre_ping": True}
    with errors_in_one_line(uri), FileLock(_folder() / "opening"):  # the second finds the tables there
        try:
            engine = sqlalchemy.create_engine(address, **options)
            if OF_MLFLOW.issubset(sqlalchemy.inspect(engine).get_table_names()):
                raise _of_mlflow(uri)
            engine.dispose()
            # Optuna fills in what stands in braces.
            storage = RDBStorage(address.replace("{", "{{").replace("}", "}}"), engine_kwargs=options)
            storage.engine.dispose()  # it connects again when it is used
            return storage
        except (ImportError, RuntimeError) as error:  # a driver is not there; the tables are another Optuna's
            raise UserError(f"{SETTING}{store_name(uri)}: cannot be opened: {first_line(error)}") from error


@contextmanager
def closed_at_last(storage: RDBStorage) -> Iterator[RDBStorage]:
    """Yields a storage, and closes its connections."""
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def errors_in_one_line(uri: str) -> Iterator[None]:
    """Raises what Optuna's storage raises as a LabError, with what can be done."""
    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        reason = why(cause).rstrip(".")
        raise LabError(
            f"{SETTING}{store_name(uri)}: cannot be used now: {reason}. Once it can, the same command goes "
            "on."
        ) from error


@contextmanager
def held(uri: str, search: str) -> Iterator[None]:
    """Holds a search, by its name in its storage: no other process works at it meanwhile.

    A file holds it on this machine, and in PostgreSQL a lock of the database on all of them.

    Raises:
        UnderWayError: Another process has it.
        LabError: The database does not answer.
    """
    lock = FileLock(_folder() / f"{_key(f'{store_address(uri)} {search}')}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise _under_way(search) from None
    try:
        with _held_in_database(uri, search):
            yield
    finally:
        lock.release()


@contextmanager
def _held_in_database(uri: str, search: str) -> Iterator[None]:
    """Holds a search in PostgreSQL, which lets go of it when the connection ends, with its process, too."""
    address = engine_address(uri)
    if not address.startswith("postgresql"):
        yield
        return
    options = {"connect_args": IN_TIME} if address.startswith(PSYCOPG) else {}
    number = int.from_bytes(hashlib.sha256(search.encode()).digest()[:8], signed=True)
    with ExitStack() as connected:
        with errors_in_one_line(uri):
            engine = sqlalchemy.create_engine(
                address, poolclass=NullPool, isolation_level="AUTOCOMMIT", **options
            )
            connection = connected.enter_context(engine.connect())
            connection.execute(sqlalchemy.text(SILENT))
            is_mine = connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(number)))
        if not is_mine:
            raise _under_way(search)
        yield


def _under_way(search: str) -> UnderWayError:
    return UnderWayError(
        f"{search.rpartition(' ')[0]}: another process is at work on this search. Give the command again "
        "when it has ended; another search.seed is another search."
    )


def _of_mlflow(uri: str) -> UserError:
    return UserError(
        f"{SETTING}{store_name(uri)}: is a database of MLflow's, which keeps runs; name another for trials."
    )


def _folder() -> Path:
    folder = state_folder("searches")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
