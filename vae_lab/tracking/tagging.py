"""One tag for many runs: MLflow takes a request a run, a file or `vae-lab server` a statement for many."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from vae_lab.errors import LabError
from vae_lab.tracking.address import sqlite_file
from vae_lab.tracking.database import open_database
from vae_lab.tracking.store import Store

REQUESTS_AT_ONCE = 8  # to a server
# What MLflow's client does for each run: none that is deleted, and a tag that is there gets the value.
_TAG = """
    INSERT OR REPLACE INTO tags (key, value, run_uuid) SELECT ?, ?, run_uuid FROM runs
    WHERE run_uuid IN (SELECT value FROM json_each(?)) AND lifecycle_stage = 'active'"""


def tag_runs(store: Store, run_ids: Sequence[str], key: str, value: str) -> None:
    """Gives many runs of a store a tag: of a file all or none of them, of a server in parts.

    Args:
        store: Opened, so that its tables are known to be the installed MLflow's.
        run_ids: The runs.
        key: Of the tag.
        value: Of the tag.

    Raises:
        LabError: The store cannot be written.
    """
    store.settle()
    if (file := sqlite_file(store.uri)) is not None:
        _tag_in_file(file, run_ids, key, value)
    elif store.bulk:
        store.bulk.tag(run_ids, key, value)
    else:
        with ThreadPoolExecutor(REQUESTS_AT_ONCE if store.courier.remote else 1) as threads:
            tag = partial(store.client.set_tag, key=key, value=value, synchronous=True)
            list(threads.map(lambda run_id: store.ask(partial(tag, run_id)), run_ids))


def _tag_in_file(file: Path, run_ids: Sequence[str], key: str, value: str) -> None:
    try:
        with open_database(file, "rw") as connection:
            connection.execute(_TAG, (key, value, json.dumps([*run_ids])))
    except sqlite3.Error as error:
        raise LabError(f"{file}: the store cannot be written: {error}") from error
