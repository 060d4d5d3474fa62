"""MLflow's tables in an SQLite file, read by a few queries.

MLflow's client takes 2 s of CPU to import and 6 to 20 ms a run; the tables are read in 0.2 ms a run. They are
MLflow's own affair, so they are read only where their revision is one of `REVISIONS`; a store of any other
goes through the client, and gives the same records.
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vae_lab.errors import LabError, UserError
from vae_lab.tracking.artifacts import download_artifact
from vae_lab.tracking.records import StoredRun, checksum_tag, member_tag

# Alembic's names of the layouts of MLflow 3.15, 3.16 and 3.17; the tables that are read are alike in them.
REVISIONS = ("6f8d9c3b2a1e", "b7e2c1a4d9f3", "dc11669786a5")
BUSY_SECONDS = 20.0  # to wait for a writer

_TAGGED = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
# In MLflow's own order: runs that began in the same millisecond stand by their ids.
_RUNS = f"""
    SELECT run_uuid, experiment_id, runs.name, status, start_time
    FROM runs JOIN experiments USING (experiment_id) WHERE run_uuid IN ({_TAGGED})
    AND runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
    ORDER BY start_time DESC, run_uuid"""
_ARTIFACTS = """
    SELECT artifact_uri, tags.value FROM runs
    LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = ? WHERE runs.run_uuid = ?"""


class Tables:
    """A store that is read and never written; its file is opened for each question."""

    def __init__(self, uri: str, file: Path) -> None:
        self.uri, self._file = uri, file

    def known(self) -> bool:
        """Returns whether the file can be read, by this layout of the tables."""
        try:
            revisions = self._rows("SELECT version_num FROM alembic_version")
        except LabError:
            return False
        return len(revisions) == 1 and revisions[0][0] in REVISIONS

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """Returns all active runs whose tag has this value, newest first."""
        runs = self._rows(_RUNS, key, value)
        if not runs:
            return []

        def of_runs(table: str, columns: str = "value") -> list[tuple[Any, ...]]:
            question = f"SELECT run_uuid, key, {columns} FROM {table} WHERE run_uuid IN ({_TAGGED})"
            return self._rows(question, key, value)

        params, tags = defaultdict[str, dict[str, str]](dict), defaultdict[str, dict[str, str]](dict)
        metrics = defaultdict[str, dict[str, float]](dict)
        for run_id, name, text in of_runs("params"):
            params[run_id][name] = text
        for run_id, name, text in of_runs("tags"):
            tags[run_id][name] = text
        for run_id, name, number, is_nan in of_runs("latest_metrics", "value, is_nan"):
            metrics[run_id][name] = math.nan if is_nan else float(number)
        return [
            StoredRun(
                run_id, str(experiment), name, status, params[run_id], metrics[run_id], tags[run_id], start
            )
            for run_id, experiment, name, status, start in runs
        ]

    def members(self, parent_run_id: str) -> list[StoredRun]:
        """Returns the runs of a multirun, oldest first: those it trained and those that were there before."""
        return self.tagged(member_tag(parent_run_id), "1")[::-1]

    def history(self, run_id: str, metric: str) -> list[float]:
        """Returns every value of a metric in the order of its steps."""
        question = "SELECT value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
        return [
            math.nan if is_nan else float(value) for value, is_nan in self._rows(question, run_id, metric)
        ]

    def download(self, run_id: str, path: str) -> Path:
        """Returns the file of one of a run's artifacts: itself in a local store, else a copy.

        Raises:
            UserError: The store has no such run.
            LabError: The run has no such artifact, or it is damaged.
        """
        for artifact_uri, checksum in self._rows(_ARTIFACTS, checksum_tag(path), run_id):
            return download_artifact(self.uri, run_id, artifact_uri, path, checksum)
        raise UserError(f"{run_id}: no run of that id in {self.uri}.")

    def _rows(self, question: str, *values: str) -> list[tuple[Any, ...]]:
        address = f"file:{quote(str(self._file))}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
                return connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise LabError(f"{self._file}: the store cannot be read: {error}") from error
