"""MLflow's tables in an SQLite file, read by a few queries.

MLflow's client takes 2 s of CPU to import and 6 to 20 ms a run; the tables are read in 0.2 ms a run. They are
MLflow's own affair, so they are read only where they have the columns of `COLUMNS`, as those of every MLflow
since 2019 have; nothing is asked of their revision, which an older or a newer MLflow may have made.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from sys import intern
from typing import Any

from vae_lab.errors import LabError, UserError
from vae_lab.tracking.artifacts import download_artifact
from vae_lab.tracking.database import open_database
from vae_lab.tracking.records import (
    DeletedRunError,
    Points,
    StoredRun,
    checksum_tag,
    member_tag,
    metric_value,
)

COLUMNS = {
    "experiments": ("experiment_id", "name", "lifecycle_stage", "artifact_location"),
    "experiment_tags": ("experiment_id", "key", "value"),
    "runs": (
        *("run_uuid", "experiment_id", "name", "status", "start_time", "end_time"),
        *("lifecycle_stage", "artifact_uri"),
    ),
    "params": ("run_uuid", "key", "value"),
    "tags": ("run_uuid", "key", "value"),
    "metrics": ("run_uuid", "key", "value", "step", "timestamp", "is_nan"),
    "latest_metrics": ("run_uuid", "key", "value", "is_nan"),
}

_COLUMNS = (
    "SELECT tables.name, columns.name FROM sqlite_master tables JOIN pragma_table_info(tables.name) columns"
)
_TAGGED = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
_ANY_TAGGED = "SELECT run_uuid FROM tags WHERE key = ? AND value IN (SELECT value FROM json_each(?))"
_RUNNING = f"{_TAGGED} AND run_uuid IN (SELECT run_uuid FROM runs WHERE status = 'RUNNING')"
_NAMED = "SELECT ?"
_STORED = "SELECT run_uuid FROM runs WHERE run_uuid = ?"
# In MLflow's own order: runs that began in the same millisecond stand by their ids.
_RUNS = """
    SELECT run_uuid, experiment_id, runs.name, status, start_time, end_time
    FROM runs JOIN experiments USING (experiment_id) WHERE run_uuid IN ({ids})
    AND runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
    ORDER BY start_time DESC, run_uuid"""
_EXPERIMENTS = "SELECT experiment_id, name FROM experiments WHERE lifecycle_stage = 'active'"
_POINTS = """
    SELECT run_uuid, key, step, value, is_nan FROM metrics
    WHERE run_uuid IN (SELECT value FROM json_each(?)) AND key IN (SELECT value FROM json_each(?))
    ORDER BY timestamp"""
_ARTIFACTS = """
    SELECT coalesce(artifact_uri, ''), tags.value FROM runs
    LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = ? WHERE runs.run_uuid = ?"""


class Tables:
    """A store that is read and never written; its file is opened for each question."""

    def __init__(self, uri: str, file: Path) -> None:
        self.uri, self._file = uri, file

    def lacks(self) -> list[str]:
        """Returns the columns that are asked for and that the database has not, such as `runs.name`.

        Raises:
            LabError: It cannot be read.
        """
        columns = {f"{table}.{column}" for table, column in self._rows(_COLUMNS)}
        wanted = [f"{table}.{column}" for table, names in COLUMNS.items() for column in names]
        return [column for column in wanted if column not in columns]

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """Returns all active runs whose tag has this value, newest first."""
        return self._runs(_TAGGED, key, value)

    def any_tagged(self, key: str, values: Collection[str]) -> list[StoredRun]:
        """Returns all active runs whose tag has one of these values, newest first."""
        return self._runs(_ANY_TAGGED, key, json.dumps([*values]))

    def experiments(self) -> dict[str, str]:
        """Returns the names of all active experiments by their ids."""
        return {str(number): str(name) for number, name in self._rows(_EXPERIMENTS)}

    def record(self, run_id: str) -> StoredRun:
        """Returns the run of that id.

        Raises:
            UserError: The store has none, or it was deleted.
        """
        for run in self._runs(_NAMED, run_id):
            return run
        if self._rows(_STORED, run_id):
            raise DeletedRunError(run_id, str(self._file))
        raise self._unknown(run_id)

    def _runs(self, ids: str, *values: str, measured: bool = True) -> list[StoredRun]:
        """Returns the active runs of a question for their ids, with or without their metrics."""
        runs = self._rows(_RUNS.format(ids=ids), *values)
        if not runs:
            return []

        def of_runs(table: str, columns: str = "value") -> Iterator[tuple[Any, ...]]:
            return self._each_row(
                f"SELECT run_uuid, key, {columns} FROM {table} WHERE run_uuid IN ({ids})", *values
            )

        params, tags = defaultdict[str, dict[str, str]](dict), defaultdict[str, dict[str, str]](dict)
        metrics = defaultdict[str, dict[str, float]](dict)
        # What many runs share is held once: in 10,000 of them a third of the memory.
        for run_id, name, text in of_runs("params"):
            params[run_id][intern(name)] = intern(str(text))
        for run_id, name, text in of_runs("tags"):
            tags[run_id][intern(name)] = intern(str(text))
        for run_id, name, number, is_nan in of_runs("latest_metrics", "value, is_nan") if measured else ():
            metrics[run_id][intern(name)] = metric_value(number, is_nan)
        return [
            StoredRun(
                *(run_id, str(experiment), name, status, params[run_id], metrics[run_id], tags[run_id]),
                *(start, end),
            )
            for run_id, experiment, name, status, start, end in runs
        ]

    def members(self, parent_run_id: str, *, running: bool = False, measured: bool = True) -> list[StoredRun]:
        """Returns the runs of a multirun, oldest first: those it trained and those that were there before."""
        ids = _RUNNING if running else _TAGGED
        return self._runs(ids, member_tag(parent_run_id), "1", measured=measured)[::-1]

    def history(self, run_id: str, metric: str) -> list[float]:
        """Returns every value of a metric in the order of its steps."""
        question = "SELECT value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
        return [metric_value(value, is_nan) for value, is_nan in self._rows(question, run_id, metric)]

    def points(self, run_ids: Collection[str], metrics: Collection[str]) -> Points:
        """Returns what some runs logged of some metrics: run, metric and step lead to the value.

        Of values that a step was given several times the latest counts.
        """
        points: Points = defaultdict(lambda: defaultdict(dict))
        rows = self._rows(_POINTS, json.dumps([*run_ids]), json.dumps([*metrics]))
        for run_id, key, step, value, is_nan in rows:
            points[run_id][key][step] = metric_value(value, is_nan)
        return {run_id: dict(values) for run_id, values in points.items()}

    def download(self, run_id: str, path: str) -> Path:
        """Returns the file of one of a run's artifacts: itself in a local store, else a copy.

        Raises:
            UserError: The store has no such run.
            LabError: The run has no such artifact, or it is damaged.
        """
        for artifact_uri, checksum in self._rows(_ARTIFACTS, checksum_tag(path), run_id):
            return download_artifact(self.uri, run_id, artifact_uri, path, checksum)
        raise self._unknown(run_id)

    def _unknown(self, run_id: str) -> UserError:
        return UserError(f"{run_id}: no run of that id in {self._file}.")

    def _rows(self, question: str, *values: str) -> list[tuple[Any, ...]]:
        return list(self._each_row(question, *values))

    def _each_row(self, question: str, *values: str) -> Iterator[tuple[Any, ...]]:
        try:
            with open_database(self._file) as connection:
                yield from connection.execute(question, values)
        except sqlite3.Error as error:
            raise LabError(f"{self._file}: the store cannot be read: {error}") from error
