"""Opens a store for reading: an SQLite file by its tables, any other by MLflow's client."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from vae_lab.errors import UserError
from vae_lab.tracking.address import resolve_address, sqlite_file
from vae_lab.tracking.database import is_empty
from vae_lab.tracking.records import Points, StoredRun
from vae_lab.tracking.tables import Tables

log = logging.getLogger(__name__)


class Reader(Protocol):
    """What is asked of a store by commands that only read; `Store` and `Tables` both answer."""

    uri: str

    def experiments(self) -> dict[str, str]:
        """Returns the names of all active experiments by their ids."""

    def record(self, run_id: str) -> StoredRun:
        """Returns the run of that id."""

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """Returns all active runs whose tag has this value, newest first."""

    def members(self, parent_run_id: str, *, running: bool = False, measured: bool = True) -> list[StoredRun]:
        """Returns the runs of a multirun, oldest first.

        Args:
            parent_run_id: Of the multirun's parent.
            running: Whether only those are wanted which the store holds for running.
            measured: Whether their metrics are wanted; else they may be left out.
        """

    def history(self, run_id: str, metric: str) -> list[float]:
        """Returns every value of a metric in the order of its steps."""

    def points(self, run_ids: Collection[str], metrics: Collection[str]) -> Points:
        """Returns what some runs logged of some metrics: run, metric and step lead to the value."""

    def download(self, run_id: str, path: str) -> Path:
        """Returns the file of one of a run's artifacts."""


def reader(uri: str | None = None) -> Reader:
    """Returns the store at `uri`, else MLFLOW_TRACKING_URI, else ./mlflow.db, for reading.

    Raises:
        UserError: There is no such store.
        LabError: The server does not answer, or the file cannot be used.
    """
    uri = resolve_address(uri)
    file = sqlite_file(uri)
    if file is not None and is_empty(file):
        raise UserError(f"{file}: no runs are kept here yet. Start with: vae-lab train")
    lacks = []
    if file is not None:
        tables = Tables(uri, file)
        if not (lacks := tables.lacks()):
            return tables
    from vae_lab.tracking.store import Store  # late: it brings MLflow with it, 2 s of CPU

    store = Store.open(uri)
    if lacks:
        log.warning(f"{file}: has no {', '.join(lacks)}: it is read by MLflow's client, which takes longer.")
    return store
