r"""The store of `benchmarks.many_runs` on PostgreSQL, to measure what reads through an MLflow server.

    python -m benchmarks.many_on_server FOLDER postgresql://USER@HOST/DATABASE

The database has to be empty; PGPASSWORD and the like are heeded. The rows are copied, in minutes where
MLflow's client would take hours. Then start the server, and in another terminal ask it:

    mlflow server --backend-store-uri postgresql://USER@HOST/DATABASE \
        --artifacts-destination FOLDER/mlflow_artifacts
    MLFLOW_TRACKING_URI=http://127.0.0.1:5000 vae-lab compare many
"""

from __future__ import annotations

import argparse
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from psycopg import sql

from vae_lab.tracking.database import open_database

SERVED = "mlflow-artifacts:"  # where artifacts lie for whoever asks a server


def copy_to(folder: Path, address: str) -> None:
    """Copies the rows of `folder`/mlflow.db into an empty PostgreSQL database, whose tables MLflow makes."""
    SqlAlchemyStore(address, f"{SERVED}/").engine.dispose()  # type: ignore[no-untyped-call]
    here = (folder / "mlflow_artifacts").as_uri()
    with open_database(folder / "mlflow.db") as source, closing(psycopg.connect(address)) as target, target:
        for table in reversed(Base.metadata.sorted_tables):  # what MLflow puts into a store that it makes
            target.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))
        for table in Base.metadata.sorted_tables:
            _copy(source, target, table.name, here)
        target.execute("SELECT setval('experiments_experiment_id_seq', max(experiment_id)) FROM experiments")


def _copy(source: sqlite3.Connection, target: psycopg.Connection, table: str, here: str) -> None:
    names = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
    listed = ", ".join(f'"{name}"' for name in names)
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with target.cursor() as cursor, cursor.copy(into) as copy:
        for row in source.execute(f"SELECT {listed} FROM {table}"):
            copy.write_row([_moved(value, here) for value in row])


def _moved(value: object, here: str) -> object:
    return value.replace(here, SERVED) if isinstance(value, str) and value.startswith(here) else value


def main() -> None:
    """Copies the store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("address")
    arguments = parser.parse_args()
    copy_to(arguments.folder.absolute(), arguments.address)


if __name__ == "__main__":
    main()
