"""MLflow: opening a store, recording runs and reading them back."""

from vae_lab.tracking.address import resolved, sqlite_file
from vae_lab.tracking.origin import code_tags
from vae_lab.tracking.store import (
    CLASS_FILE,
    COMMAND,
    ENVIRONMENT,
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
    Recorder,
    Store,
    member_tag,
    save_figures,
)

__all__ = [
    "CLASS_FILE",
    "COMMAND",
    "ENVIRONMENT",
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
    "Record",
    "Recorder",
    "Store",
    "code_tags",
    "member_tag",
    "resolved",
    "save_figures",
    "sqlite_file",
]
