"""What the runs of a store came to: every metric that does not measure time, and which runs finished."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

TIMED = ("%second%", "%memory%")  # metrics that no two runs share
Metrics = dict[tuple[str, int], float]


class Finished(NamedTuple):
    """A run that finished."""

    fingerprint: str
    began: float  # seconds since 1970
    ended: float
    metrics: Metrics  # by name and step


class WrongError(Exception):
    """A proof failed; the message says what was seen."""


def finished(folder: Path) -> list[Finished]:
    """Returns the finished runs of the store in a folder, those of a multirun's parents left out."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        runs = store.execute(
            "SELECT run_uuid, value, start_time, end_time FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'vae_lab.fingerprint' AND status = 'FINISHED' ORDER BY start_time"
        ).fetchall()
        return [
            Finished(mark, start / 1e3, end / 1e3, _metrics(store, run)) for run, mark, start, end in runs
        ]


def _metrics(store: sqlite3.Connection, run: str) -> Metrics:
    unlike = " ".join("AND key NOT LIKE ?" for _ in TIMED)
    rows = store.execute(f"SELECT key, step, value FROM metrics WHERE run_uuid = ? {unlike}", (run, *TIMED))
    return {(key, step): value for key, step, value in rows}


def check_same(folder: Path, undisturbed: Path) -> int:
    """Compares two stores: each result is there once, equal to the last bit; returns how many there are.

    Raises:
        WrongError: One is missing, doubled or different.
    """
    here, there = finished(folder), {run.fingerprint: run for run in finished(undisturbed)}
    marks = [run.fingerprint for run in here]
    if sorted(marks) != sorted(there):
        raise WrongError(
            f"{len(marks)} runs finished, of {len(set(marks))} results; undisturbed there are {len(there)}"
        )
    different = [run.fingerprint for run in here if run.metrics != there[run.fingerprint].metrics]
    if different:
        raise WrongError(f"{len(different)} of {len(here)} runs differ from undisturbed ones: {different}")
    return len(here)
