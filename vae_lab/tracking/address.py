"""Which tracking store is meant, and whether it answers."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

from vae_lab import folders
from vae_lab.errors import LabError, UserError

REACHABLE_SECONDS = 5.0


def resolved(uri: str | None) -> str:
    """The tracking address: as given, else from the environment, else ./mlflow.db as an absolute path."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser().absolute()}"
    if urlsplit(uri).scheme in ("http", "https", "databricks", "postgresql", "mysql", "mssql"):
        return uri
    raise UserError(
        f"tracking.uri={uri}: not an address the lab can use. Valid: sqlite:///FILE, http://HOST:PORT, "
        "https://..., or a database address that MLflow accepts."
    )


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite store, None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def lock_file(file: Path) -> Path:
    """The lock of an SQLite store, kept in the cache so that it does not lie beside the user's files."""
    locks = folders.cache("locks")
    locks.mkdir(parents=True, exist_ok=True)
    return locks / f"{hashlib.sha256(str(file).encode()).hexdigest()[:16]}.lock"


def check_server(uri: str) -> None:
    """Asks an HTTP server once and quickly; MLflow's client would go on trying for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    import requests

    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=REACHABLE_SECONDS)
    except requests.RequestException as error:
        raise LabError(
            f"{uri}: the tracking server does not answer ({type(error).__name__}). Start it, or choose "
            "another store with tracking.uri=... or MLFLOW_TRACKING_URI."
        ) from error
