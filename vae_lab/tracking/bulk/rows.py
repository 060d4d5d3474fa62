"""The rows of MLflow's tables that answer a question about many runs, over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text

from vae_lab.tracking.bulk.questions import Point, Run

_ACTIVE = (
    "FROM runs JOIN experiments USING (experiment_id) "
    "WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active' AND run_uuid IN "
)


def _question(words: str, *lists: str) -> TextClause:
    """Returns an SQL text some of whose values are lists."""
    return text(words).bindparams(*(bindparam(name, expanding=True) for name in lists))


_TAGGED = _question(
    "SELECT run_uuid, experiment_id, start_time, status "
    f"{_ACTIVE} (SELECT run_uuid FROM tags WHERE key = :key AND value IN :values)",
    "values",
)
_PLACES = _question(f"SELECT run_uuid, experiment_id {_ACTIVE} :ids", "ids")
_RUNS = _question(
    f"SELECT run_uuid, experiment_id, runs.name, status, start_time, end_time {_ACTIVE} :ids", "ids"
)
_PARAMS, _TAGS = (
    _question(f"SELECT run_uuid, key, value FROM {table} WHERE run_uuid IN :ids", "ids")
    for table in ("params", "tags")
)
_METRICS = _question("SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN :ids", "ids")
_POINTS = _question(
    "SELECT run_uuid, key, step, value, is_nan FROM metrics WHERE run_uuid IN :ids AND key IN :metrics "
    "ORDER BY timestamp",
    *("ids", "metrics"),
)
_COPY = _question(
    "INSERT INTO tags (key, value, run_uuid) "
    "SELECT tags.key, tags.value, runs.run_uuid FROM tags CROSS JOIN runs "
    "WHERE tags.run_uuid = :run AND tags.key = :key AND runs.run_uuid IN :ids "
    "ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value",
    "ids",
)


def tagged(
    connection: Connection, key: str, values: Collection[str], *, running: bool
) -> list[tuple[str, int, int]]:
    """Returns the active runs whose tag has one of these values: id, experiment and start.

    Args:
        connection: To MLflow's database.
        key: Of the tag.
        values: Of the tag.
        running: Whether only those are wanted which the store holds for running.
    """
    rows = connection.execute(_TAGGED, {"key": key, "values": [*values]})
    return [
        (run_id, experiment, started or 0)
        for run_id, experiment, started, status in rows
        if not running or status == "RUNNING"
    ]


def places(connection: Connection, run_ids: Collection[str]) -> dict[str, int]:
    """Returns the experiments of those of the runs that are there and active."""
    rows = connection.execute(_PLACES, {"ids": [*run_ids]})
    return {str(run_id): int(experiment) for run_id, experiment in rows}


def runs(connection: Connection, run_ids: Collection[str], *, measured: bool) -> list[Run]:
    """Returns what is kept of those of the runs that are active, with their metrics if they are wanted."""
    ids = {"ids": [*run_ids]}
    rows: dict[str, Run] = {
        run_id: Run(run_id, str(experiment), name or "", status or "", start or 0, end or 0, {}, {}, {})
        for run_id, experiment, name, status, start, end in connection.execute(_RUNS, ids)
    }
    for run_id, key, value in _of(rows, connection.execute(_PARAMS, ids)):
        rows[run_id].params[key] = value or ""
    for run_id, key, value in _of(rows, connection.execute(_TAGS, ids)):
        rows[run_id].tags[key] = value or ""
    for run_id, key, number, is_nan in _of(rows, connection.execute(_METRICS, ids) if measured else ()):
        rows[run_id].metrics[key] = None if is_nan else number
    return [*rows.values()]


def _of(runs_by_id: dict[str, Run], rows: Iterable[Any]) -> Iterable[Any]:
    """Returns those rows that are of the runs; one may have been deleted meanwhile."""
    return (row for row in rows if row[0] in runs_by_id)


def points(connection: Connection, run_ids: Collection[str], metrics: Collection[str]) -> list[Point]:
    """Returns what the runs logged of the metrics, in that order; each is named by its place."""
    place_of = {run_id: place for place, run_id in enumerate(run_ids)}
    metric_of = {name: place for place, name in enumerate(metrics)}
    rows = connection.execute(_POINTS, {"ids": [*run_ids], "metrics": [*metrics]})
    return [
        Point(place_of[run_id], metric_of[key], step, None if is_nan else value)
        for run_id, key, step, value, is_nan in rows
    ]


def copy_tag(connection: Connection, key: str, run_id: str, run_ids: Collection[str]) -> None:
    """Gives runs a tag with the value that it has at one of them."""
    connection.execute(_COPY, {"key": key, "run": run_id, "ids": [*run_ids]})
