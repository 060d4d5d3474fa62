"""MLflow: writing runs, reading runs, and what happens while a store is away.

`Store`, `Recorder` and `deliver_backlog` bring MLflow with them, 2 s of CPU: they are
imported at their first use, so that what only reads an SQLite file (`reading`) goes without.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_lab.tracking.address import resolve_address, sqlite_file, store_name
from vae_lab.tracking.folders import spool_address, spool_folder, spool_folders
from vae_lab.tracking.processes import (
    RunFolder,
    checkpoint_files,
    heartbeat,
    process_end,
)
from vae_lab.tracking.provenance import code_tags
from vae_lab.tracking.reading import Reader, reader
from vae_lab.tracking.records import (
    CLASS_FILE,
    COMMAND,
    ENVIRONMENT,
    ERROR,
    EVALUATION,
    FINGERPRINT,
    HEARTBEAT,
    INTERPOLATION_FILE,
    KIND,
    NOTE,
    PARENT,
    PROCESS,
    RUN,
    STRIP_FILE,
    STUDY,
    SWEEP,
    StoredRun,
    member_tag,
)

if TYPE_CHECKING:
    from vae_lab.tracking.backlog import deliver_backlog
    from vae_lab.tracking.recorder import Recorder
    from vae_lab.tracking.store import Store

_LATE = {"Recorder": "recorder", "Store": "store", "deliver_backlog": "backlog"}

# MLflow reads them when it is imported or asks a server.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no calls home from a user's experiments
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# The lab itself tries again, where it knows what may be asked twice; MLflow would for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


__all__ = [
    "CLASS_FILE",
    "COMMAND",
    "ENVIRONMENT",
    "ERROR",
    "EVALUATION",
    "FINGERPRINT",
    "HEARTBEAT",
    "INTERPOLATION_FILE",
    "KIND",
    "NOTE",
    "PARENT",
    "PROCESS",
    "RUN",
    "STRIP_FILE",
    "STUDY",
    "SWEEP",
    "Reader",
    "Recorder",
    "RunFolder",
    "Store",
    "StoredRun",
    "checkpoint_files",
    "code_tags",
    "deliver_backlog",
    "heartbeat",
    "member_tag",
    "process_end",
    "reader",
    "resolve_address",
    "spool_address",
    "spool_folder",
    "spool_folders",
    "sqlite_file",
    "store_name",
]
