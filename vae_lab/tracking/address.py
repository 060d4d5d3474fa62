"""Which tracking store is meant, and whether it answers."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from vae_lab import files, interruption
from vae_lab.errors import LabError, UserError, quoted

log = logging.getLogger(__name__)

SCHEMES = ("http", "https", "databricks", "postgresql", "mysql", "mssql")
REACHABLE_SECONDS = 5.0
ASK_SECONDS = 0.5  # between two questions


def resolve_address(uri: str | None) -> str:
    """Returns the address as given, else from the environment, else that of ./mlflow.db, as an absolute path.

    Raises:
        UserError: It is no address of a store.

    Examples:
        >>> resolve_address("sqlite:////home/me/mlflow.db")
        'sqlite:////home/me/mlflow.db'
        >>> resolve_address("http://127.0.0.1:5000")
        'http://127.0.0.1:5000'
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser().absolute()}"
    with suppress(ValueError):  # http://[
        if urlsplit(uri).scheme.partition("+")[0] in SCHEMES:
            return uri
    raise UserError(
        f"tracking.uri={quoted(uri)}: not an address the lab can use. Valid: sqlite:///FILE, "
        "http://HOST:PORT, https://..., or a database address that MLflow accepts."
    )


def sqlite_file(uri: str) -> Path | None:
    """Returns the file of an SQLite store, None for a server.

    Examples:
        >>> str(sqlite_file("sqlite:////home/me/mlflow.db"))
        '/home/me/mlflow.db'
    """
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def lock_file(file: Path) -> Path:
    """Returns the lock of an SQLite store, in the cache so that it does not lie beside the user's files."""
    locks = files.cache_folder("locks")
    locks.mkdir(parents=True, exist_ok=True)
    return locks / f"{hashlib.sha256(str(file).encode()).hexdigest()[:16]}.lock"


def store_name(uri: str) -> str:
    """Returns a store's name in messages: the file of an SQLite store, else the address without its password.

    Examples:
        >>> store_name("postgresql://me:secret@127.0.0.1/lab")
        'postgresql://me:***@127.0.0.1/lab'
    """
    if (file := sqlite_file(uri)) is not None:
        return str(file)
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))


def check_server(uri: str, wait: float = 0.0) -> None:
    """Asks an HTTP server quickly; MLflow's client would go on trying for minutes.

    Args:
        uri: Its address.
        wait: Seconds to go on asking.

    Raises:
        LabError: It does not answer.
    """
    if not uri.startswith(("http://", "https://")):
        return
    end, warned = time.monotonic() + wait, False
    while reason := silence(uri):
        if time.monotonic() > end:
            raise LabError(
                f"{store_name(uri)}: the tracking server does not answer ({reason}). Start it, or choose "
                "another store with tracking.uri=... or MLFLOW_TRACKING_URI."
            )
        if not warned:
            log.warning(f"{store_name(uri)} does not answer ({reason}). Waiting up to {wait:.0f} s.")
            warned = True
        interruption.check_now()
        time.sleep(ASK_SECONDS)


def silence(uri: str) -> str:
    """Returns why an HTTP server does not answer; empty if it does, whatever it says."""
    import requests

    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=REACHABLE_SECONDS)
    except requests.RequestException as error:
        return "no answer in time" if isinstance(error, requests.Timeout) else "connection refused"
    return ""
