"""MLflow: writing runs, reading runs, and what happens while a store is away.

`Store`, `Recorder` and `deliver_backlog` bring MLflow with them, 2 s of CPU: they are
imported at their first use, so that what only reads an SQLite file (`reading`) goes without.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_lab.tracking.address import (
    client_address,
    file_address,
    is_server,
    resolve_address,
    sqlite_file,
    store_name,
)
from vae_lab.tracking.artifacts import FOLDER as ARTIFACT_FOLDER
from vae_lab.tracking.folders import spool_address, spool_folder, spool_folders, start_lock
from vae_lab.tracking.moves import copy_for_reading, settle
from vae_lab.tracking.processes import (
    RunFolder,
    at_work,
    checkpoint_files,
    heartbeat,
    is_of_this_machine,
    process_end,
)
from vae_lab.tracking.provenance import code_tags, owner
from vae_lab.tracking.proxies import exempt_this_machine
from vae_lab.tracking.reading import Reader, reader
from vae_lab.tracking.records import (
    ATTEMPT,
    CLASS_FILE,
    COMMAND,
    ENVIRONMENT,
    ERROR,
    EVALUATION,
    EVALUATION_AT_END,
    EXPLORER_FILE,
    FAULT,
    FINGERPRINT,
    HEARTBEAT,
    IMAGES,
    INTERPOLATION_FILE,
    KIND,
    NO_EVALUATION,
    NOTE,
    OWNER,
    PARENT,
    PROCESS,
    RUN,
    STEPS_FILE,
    STOPPED,
    STRIP_FILE,
    STUDY,
    SUPERSEDED,
    SWEEP,
    TURN,
    WAITING,
    WITHDRAWN,
    WORKER,
    StoredRun,
    member_tag,
    whole_number,
)

if TYPE_CHECKING:
    from vae_lab.tracking.backlog import deliver_backlog, let_go, waiting_records
    from vae_lab.tracking.recorder import Recorder
    from vae_lab.tracking.store import Store

_LATE = {
    "Recorder": "recorder",
    "Store": "store",
    "deliver_backlog": "backlog",
    "let_go": "backlog",
    "waiting_records": "backlog",
}

# MLflow reads them when it is imported or asks a server.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no calls home from a user's experiments
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # a server's, with its password
# The lab itself tries again, where it knows what may be asked twice; MLflow would for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
exempt_this_machine(os.environ)


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


__all__ = [
    "ARTIFACT_FOLDER",
    "ATTEMPT",
    "CLASS_FILE",
    "COMMAND",
    "ENVIRONMENT",
    "ERROR",
    "EVALUATION",
    "EVALUATION_AT_END",
    "EXPLORER_FILE",
    "FAULT",
    "FINGERPRINT",
    "HEARTBEAT",
    "IMAGES",
    "INTERPOLATION_FILE",
    "KIND",
    "NOTE",
    "NO_EVALUATION",
    "OWNER",
    "PARENT",
    "PROCESS",
    "RUN",
    "STEPS_FILE",
    "STOPPED",
    "STRIP_FILE",
    "STUDY",
    "SUPERSEDED",
    "SWEEP",
    "TURN",
    "WAITING",
    "WITHDRAWN",
    "WORKER",
    "Reader",
    "Recorder",
    "RunFolder",
    "Store",
    "StoredRun",
    "at_work",
    "checkpoint_files",
    "client_address",
    "code_tags",
    "copy_for_reading",
    "deliver_backlog",
    "file_address",
    "heartbeat",
    "is_of_this_machine",
    "is_server",
    "let_go",
    "member_tag",
    "owner",
    "process_end",
    "reader",
    "resolve_address",
    "settle",
    "spool_address",
    "spool_folder",
    "spool_folders",
    "sqlite_file",
    "start_lock",
    "store_name",
    "waiting_records",
    "whole_number",
]
