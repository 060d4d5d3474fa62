"""MLflow: opening a store, recording runs and reading them back.

`Store`, `Recorder` and `deliver_backlog` bring MLflow with them, 2 s of CPU: they are
imported at their first use, so that what only reads an SQLite file (`reading`) goes without.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_lab.tracking.address import named, resolved, sqlite_file
from vae_lab.tracking.origin import code_tags
from vae_lab.tracking.places import address_of, all_places, place_of
from vae_lab.tracking.processes import RunFolder, gone, heartbeat, kept
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
    from vae_lab.tracking.courier import unwritable
    from vae_lab.tracking.recorder import Recorder
    from vae_lab.tracking.store import Store

_LATE = {
    "Recorder": "vae_lab.tracking.recorder",
    "Store": "vae_lab.tracking.store",
    "deliver_backlog": "vae_lab.tracking.backlog",
    "unwritable": "vae_lab.tracking.courier",
}

# MLflow reads them when it is imported or asks a server.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no calls home from a user's experiments
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# The lab itself tries again, where it knows what may be asked twice; MLflow would for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_LATE[name]), name)


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
    "address_of",
    "all_places",
    "code_tags",
    "deliver_backlog",
    "gone",
    "heartbeat",
    "kept",
    "member_tag",
    "named",
    "place_of",
    "reader",
    "resolved",
    "sqlite_file",
    "unwritable",
]
