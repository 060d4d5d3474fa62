"""MLflow: opening a store, recording runs and reading them back.

`Store`, `Recorder` and `save_figures` bring MLflow with them, 2 s of CPU: they are imported at their first
use, so that what only reads an SQLite file (`reading`) goes without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_lab.tracking.address import resolved, sqlite_file
from vae_lab.tracking.origin import code_tags
from vae_lab.tracking.reading import Reader, reader
from vae_lab.tracking.records import (
    CLASS_FILE,
    COMMAND,
    ENVIRONMENT,
    ERROR,
    EVALUATION,
    FINGERPRINT,
    INTERPOLATION_FILE,
    KIND,
    NOTE,
    PARENT,
    RUN,
    STRIP_FILE,
    STUDY,
    SWEEP,
    Record,
    member_tag,
)

if TYPE_CHECKING:
    from vae_lab.tracking.store import Recorder, Store, save_figures

_LATE = dict.fromkeys(("Recorder", "Store", "save_figures"), "vae_lab.tracking.store")


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
    "INTERPOLATION_FILE",
    "KIND",
    "NOTE",
    "PARENT",
    "RUN",
    "STRIP_FILE",
    "STUDY",
    "SWEEP",
    "Reader",
    "Record",
    "Recorder",
    "Store",
    "code_tags",
    "member_tag",
    "reader",
    "resolved",
    "save_figures",
    "sqlite_file",
]
