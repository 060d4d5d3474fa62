"""Reading many runs at once: an SQLite store by a few queries of its tables, any other by MLflow's client.

MLflow's client takes 2 s of CPU to import and 6 to 20 ms a run; the tables are read in 0.2 ms a run. They are
MLflow's own affair, so they are read only where their revision is one of `REVISIONS`; a store of any other
goes through the client, and gives the same records.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, unquote, urlsplit

from vae_lab.errors import LabError, UserError
from vae_lab.files import checksum
from vae_lab.tracking.address import resolved, sqlite_file
from vae_lab.tracking.processes import gone
from vae_lab.tracking.records import StoredRun, checksum_tag, member_tag

if TYPE_CHECKING:
    from vae_lab.tracking.store import Store

# Alembic's names of the layouts of MLflow 3.15, 3.16 and 3.17; the tables that are read are alike in them.
REVISIONS = ("6f8d9c3b2a1e", "b7e2c1a4d9f3", "dc11669786a5")
BUSY_SECONDS = 20.0  # to wait for a writer
PART = 500  # run ids in one query; SQLite takes 999 in its oldest builds


class Reader(Protocol):
    """What is asked of a store by commands that only read; `Store` and `Tables` both answer."""

    uri: str

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """All active runs whose tag has this value, newest first."""

    def members(self, parent_run_id: str) -> list[StoredRun]:
        """The runs of a multirun, oldest first."""

    def history(self, run_id: str, metric: str) -> list[float]:
        """Every value of a metric in the order of its steps."""

    def close_gone(self, records: Iterable[StoredRun]) -> list[StoredRun]:
        """Closes those of the runs whose process is gone, as interrupted; gives them."""

    def download(self, run_id: str, path: str) -> Path:
        """The file of one of a run's artifacts."""


def reader(uri: str | None = None) -> Reader:
    """The store at `uri`, else MLFLOW_TRACKING_URI, else ./mlflow.db, for reading.

    Raises:
        UserError: there is no such store.
        LabError: the server does not answer, or the file cannot be used.
    """
    uri = resolved(uri)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise UserError(f"{file}: no runs are kept here yet. Start with: vae-lab train")
    tables = Tables(uri, file) if file is not None else None
    return tables if tables is not None and tables.known() else _client(uri)


def unaltered(file: Path, expected: str | None) -> Path:
    """The file, if it has the expected checksum or none is known.

    Raises:
        LabError: it is damaged.
    """
    if expected is not None and checksum(file) != expected:
        raise LabError(f"{file}: is damaged: its checksum is not the one that the run recorded.")
    return file


def _client(uri: str) -> Store:
    from vae_lab.tracking.store import Store

    return Store.open(uri)


class Tables:
    """MLflow's tables in an SQLite file, opened for each question and never written."""

    def __init__(self, uri: str, file: Path) -> None:
        self.uri, self._file = uri, file

    def known(self) -> bool:
        """Whether the file can be read, by this layout of the tables."""
        try:
            with closing(self._open()) as connection:
                found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.Error:
            return False
        return len(found) == 1 and found[0][0] in REVISIONS

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(self._file))}?mode=ro", uri=True, timeout=BUSY_SECONDS)

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """All active runs whose tag has this value, newest first."""
        # In MLflow's own order: runs that began in the same millisecond stand by their ids.
        question = """
            SELECT run_uuid, experiment_id, runs.name, status, start_time FROM runs
            JOIN tags USING (run_uuid) JOIN experiments USING (experiment_id)
            WHERE tags.key = ? AND tags.value = ?
            AND runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
            ORDER BY start_time DESC, run_uuid"""
        try:
            with closing(self._open()) as connection:
                rows = connection.execute(question, (key, value)).fetchall()
                ids = [row[0] for row in rows]
                params: dict[str, dict[str, str]] = {run_id: {} for run_id in ids}
                tags: dict[str, dict[str, str]] = {run_id: {} for run_id in ids}
                metrics: dict[str, dict[str, float]] = {run_id: {} for run_id in ids}
                for run_id, name, text in _of(connection, "params", "value", ids):
                    params[run_id][name] = text
                for run_id, name, text in _of(connection, "tags", "value", ids):
                    tags[run_id][name] = text
                for run_id, name, number, is_nan in _of(connection, "latest_metrics", "value, is_nan", ids):
                    metrics[run_id][name] = math.nan if is_nan else float(number)
        except sqlite3.Error as error:
            raise LabError(f"{self._file}: the store cannot be read: {error}") from error
        return [
            StoredRun(
                run_id, str(experiment), name, status, params[run_id], metrics[run_id], tags[run_id], start
            )
            for run_id, experiment, name, status, start in rows
        ]

    def members(self, parent_run_id: str) -> list[StoredRun]:
        """The runs of a multirun, oldest first: those it trained and those that were there before."""
        return self.tagged(member_tag(parent_run_id), "1")[::-1]

    def history(self, run_id: str, metric: str) -> list[float]:
        """Every value of a metric in the order of its steps."""
        question = "SELECT value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
        try:
            with closing(self._open()) as connection:
                rows = connection.execute(question, (run_id, metric)).fetchall()
        except sqlite3.Error as error:
            raise LabError(f"{self._file}: the store cannot be read: {error}") from error
        return [math.nan if is_nan else float(value) for value, is_nan in rows]

    def close_gone(self, records: Iterable[StoredRun]) -> list[StoredRun]:
        """Closes those of the runs whose process is gone, as interrupted, by MLflow's client; gives them."""
        lost = [record for record in records if gone(record)]
        return _client(self.uri).close_gone(lost) if lost else []

    def download(self, run_id: str, path: str) -> Path:
        """The file of one of a run's artifacts: itself in a local store, else a copy.

        Raises:
            LabError: the run has no such artifact, or it is damaged.
        """
        question = """
            SELECT artifact_uri, tags.value FROM runs
            LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = ? WHERE runs.run_uuid = ?"""
        try:
            with closing(self._open()) as connection:
                found = connection.execute(question, (checksum_tag(path), run_id)).fetchone()
        except sqlite3.Error as error:
            raise LabError(f"{self._file}: the store cannot be read: {error}") from error
        if found is not None and found[0].startswith("file:"):
            local = Path(unquote(urlsplit(found[0]).path)) / path
            if local.is_file():
                return unaltered(local, found[1])
        return _client(self.uri).download(run_id, path)


def _of(
    connection: sqlite3.Connection, table: str, columns: str, ids: list[str]
) -> Iterator[tuple[str, ...]]:
    """Rows (run, key, columns) of some runs; `table` and `columns` are this module's own words."""
    for start in range(0, len(ids), PART):
        part = ids[start : start + PART]
        marks = ", ".join("?" * len(part))
        yield from connection.execute(
            f"SELECT run_uuid, key, {columns} FROM {table} WHERE run_uuid IN ({marks})", part
        )
