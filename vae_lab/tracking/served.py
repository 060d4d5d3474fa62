"""A database that a server is about to keep its runs in: looked at before MLflow's server is started."""

from __future__ import annotations

import sqlite3

import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import create_sqlalchemy_engine
from sqlalchemy.exc import SQLAlchemyError

from vae_lab.errors import LabError, UserError, quoted
from vae_lab.tracking.address import client_address, sqlite_file, store_name
from vae_lab.tracking.database import check_database
from vae_lab.tracking.delivery import why
from vae_lab.tracking.schema import check_schema

# Clients write there themselves instead of through the server; the first is MLflow's own, and mostly empty.
_ON_ITS_MACHINE = """
    SELECT name, artifact_location FROM experiments
    WHERE lifecycle_stage = 'active' AND (artifact_location LIKE 'file:%' OR artifact_location LIKE '/%')
    AND (experiment_id <> 0 OR EXISTS (SELECT 1 FROM runs WHERE runs.experiment_id = 0))"""


def check_served(uri: str) -> None:
    """Checks that a database, if it has tables, is a server's, and that they are the installed MLflow's.

    Raises:
        UserError: It is not.
        LabError: It does not answer.
    """
    file = sqlite_file(uri)
    try:
        if file is not None:
            check_database(file)
        check_schema(uri)
        elsewhere = _experiments_on_its_machine(uri)
    except (ImportError, OSError, sqlite3.Error, MlflowException, SQLAlchemyError) as error:
        raise LabError(f"{store_name(uri)}: the database cannot be opened: {why(error)}") from error
    for name, location in elsewhere:
        raise UserError(
            f"{store_name(uri)}: its experiment {quoted(name)} keeps artifacts in {quoted(location)}, where "
            "clients on other machines would look for them on their own. Give the server an empty database; "
            "this one is shown by vae-lab ui."
        )


def _experiments_on_its_machine(uri: str) -> list[tuple[str, str]]:
    """Returns name and place of the experiments whose artifacts are not reached through a server."""
    engine = create_sqlalchemy_engine(client_address(uri))  # type: ignore[no-untyped-call]
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("experiments"):
                return []
            rows = connection.execute(sqlalchemy.text(_ON_ITS_MACHINE))
            return [(str(name), str(location)) for name, location in rows]
    finally:
        engine.dispose()
