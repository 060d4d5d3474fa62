"""Whose tables a database has: the installed MLflow's, an older or a newer one's, or something else's.

SQLAlchemy and Alembic are imported when a database is looked at: 40 MB that whoever asks a server needs not.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import NamedTuple

import mlflow

from vae_lab.errors import UserError, quoted
from vae_lab.tracking.address import client_address, is_server, sqlite_file, store_name

LOOK_SECONDS, MAKING_SECONDS = 1.0, 60.0


class Schema(NamedTuple):
    """The tables of a database, and the revisions that Alembic noted."""

    tables: frozenset[str]
    revisions: tuple[str, ...]


def check_schema(uri: str) -> None:
    """Looks at a database before MLflow's client does, which upgrades old tables without a word.

    An empty database has nothing to be upgraded.

    Args:
        uri: A store; if it is a file, it exists.

    Raises:
        UserError: Its tables are not those of the installed MLflow.
        SQLAlchemyError: It cannot be read.
    """
    if is_server(uri) or uri.startswith("databricks"):  # they look after their own
        return
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent))
    current = (scripts.get_current_head(),)
    schema, before, end = _schema(uri), None, time.monotonic() + MAKING_SECONDS
    while schema.tables and schema.revisions != current and time.monotonic() < end:
        if schema == before and not _is_written_to(uri):
            break
        time.sleep(LOOK_SECONDS)  # another program may be about to make or to upgrade them
        schema, before = _schema(uri), schema
    if schema.tables and schema.revisions != current:
        known = {script.revision for script in scripts.walk_revisions()}
        raise UserError(f"{store_name(uri)}: {_difference(uri, schema, known)}")


def _is_written_to(uri: str) -> bool:
    """Returns whether a program writes to an SQLite file now; a lock would tell, too, and make it fail."""
    file = sqlite_file(uri)
    return file is not None and file.with_name(f"{file.name}-journal").exists()


def _schema(uri: str) -> Schema:
    import sqlalchemy
    from alembic.migration import MigrationContext
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(client_address(uri))  # type: ignore[no-untyped-call]
    try:
        with engine.connect() as connection:
            tables = frozenset(sqlalchemy.inspect(connection).get_table_names())
            return Schema(tables, MigrationContext.configure(connection).get_current_heads())
    finally:
        engine.dispose()


def _difference(uri: str, schema: Schema, known: set[str]) -> str:
    version, file = mlflow.__version__, sqlite_file(uri)
    if not {"experiments", "runs"} <= schema.tables:
        names = quoted(", ".join(sorted(schema.tables)))
        return f"this is a database of something else, with the tables {names}. Choose another store."
    if not known.issuperset(schema.revisions):
        return (
            f"a newer MLflow than {version}, which is installed, made its tables "
            f"(revision {quoted(', '.join(schema.revisions))}). Install it: pip install --upgrade mlflow"
        )
    reading = "" if file is None else " What only reads, such as vae-lab compare, works as it is."
    backup = "back it up" if file is None else "copy the file"
    return (
        f"an older MLflow made its tables, and could no longer use them if MLflow {version} upgraded them, "
        f"so nothing was done.{reading} To have them upgraded, {backup}, then: "
        f"mlflow db upgrade {shlex.quote(store_name(uri) if file is None else client_address(uri))}"
    )
