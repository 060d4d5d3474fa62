"""Artifacts of runs: where they lie, also after a store was moved, and reading one back.

MLflow writes down absolute paths. An experiment that the lab writes to therefore says where the store's
database lay meanwhile (the tag HOMES): what is written down as below one of these folders lies beside the
database, wherever that is now.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vae_lab.errors import LabError
from vae_lab.files import unaltered
from vae_lab.tracking.address import client_address, sqlite_file
from vae_lab.tracking.database import open_database

FOLDER = "mlflow_artifacts"  # beside the database
OLD_FOLDER = "mlruns"  # of stores made before; MLflow's file store complains of what it does not know there
HOMES = "vae_lab.homes"  # tag of an experiment: the paths that the database has had, as JSON, newest first
MOST_HOMES = 8

_EXPERIMENTS = """
    SELECT artifact_location, tag.value FROM experiments
    LEFT JOIN experiment_tags AS tag ON tag.experiment_id = experiments.experiment_id AND tag.key = ?
    ORDER BY tag.value IS NULL, experiments.experiment_id"""


def homes(file: Path) -> list[Path]:
    """Returns the paths that a store's database has had, newest first; none if the lab never wrote to it.

    Raises:
        LabError: The database cannot be read.
    """
    try:
        with open_database(file) as connection:
            return homes_of(connection, file.name)
    except sqlite3.Error as error:
        raise LabError(f"{file}: the store cannot be read: {error}") from error


def homes_of(connection: sqlite3.Connection, name: str) -> list[Path]:
    """Returns what `homes` does of an open database, which is called `name`."""
    for location, tag in connection.execute(_EXPERIMENTS, (HOMES,)):
        if tag is not None:
            return _parsed(tag)
        if (path := local_path(location or "")) is not None and path.name in (FOLDER, OLD_FOLDER):
            return [path.parent / name]  # an experiment that the lab made before it wrote down where
    return []


def _parsed(tag: str) -> list[Path]:
    try:
        paths = json.loads(tag)
    except (ValueError, RecursionError):  # not the lab's own
        return []
    return [Path(path) for path in paths if isinstance(path, str)] if isinstance(paths, list) else []


def homes_tag(file: Path, earlier: Iterable[Path]) -> str:
    """Returns the tag HOMES of a database that lies at `file` now.

    Examples:
        >>> homes_tag(Path("/new/mlflow.db"), [Path("/old/mlflow.db")])
        '["/new/mlflow.db", "/old/mlflow.db"]'
    """
    paths = dict.fromkeys(map(str, [file, *earlier]))
    return json.dumps([*paths][:MOST_HOMES])


def local_path(location: str) -> Path | None:
    """Returns the path that a location of artifacts names on this machine; None for any other.

    Examples:
        >>> str(local_path("file:///home/me/my%20lab/mlruns")), str(local_path("/home/me/mlruns/0"))
        ('/home/me/my lab/mlruns', '/home/me/mlruns/0')
        >>> local_path("mlflow-artifacts:/1") is None
        True
    """
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def carried(location: str, earlier: Sequence[Path], file: Path) -> str:
    """Returns a location as it is after the database has come from its earlier paths to `file`.

    Args:
        location: As it is written down.
        earlier: The paths that the database has had, newest first.
        file: Where it lies now.

    Examples:
        >>> carried("file:///old/mlruns/1f", [Path("/old/mlflow.db")], Path("/new/mlflow.db"))
        'file:///new/mlruns/1f'
        >>> carried("s3://bucket/1f", [Path("/old/mlflow.db")], Path("/new/mlflow.db"))
        's3://bucket/1f'
    """
    if (path := local_path(location)) is None:
        return location
    for home in earlier:
        if path.is_relative_to(home.parent):
            moved = file.parent / path.relative_to(home.parent)
            return moved.as_uri() if location.startswith("file:") else str(moved)
    return location


def artifact_place(store_uri: str, artifact_uri: str, path: str) -> str:
    """Returns where an artifact lies: the path of the file in a local store, else its address.

    What lies beside the database comes first, wherever it lay when its place was written down; a database
    that came without its artifacts has them where they were. What is nowhere belongs beside the database.

    Args:
        store_uri: The store's address.
        artifact_uri: The location of all artifacts of the run, as it is written down.
        path: The artifact's path among them.

    Raises:
        LabError: The database cannot be read.

    Examples:
        >>> artifact_place("http://127.0.0.1:5000", "file:///home/me/1f/artifacts", "config.yaml")
        '/home/me/1f/artifacts/config.yaml'
        >>> artifact_place("http://127.0.0.1:5000", "mlflow-artifacts:/1/1f/artifacts", "config.yaml")
        'mlflow-artifacts:/1/1f/artifacts/config.yaml'
    """
    if local_path(artifact_uri) is None:
        return f"{artifact_uri}/{path}"
    file = sqlite_file(store_uri)
    earlier = [] if file is None else homes(file)
    locations = [carried(artifact_uri, earlier, home) for home in (file, *earlier) if home] or [artifact_uri]
    places = [root / path for location in locations if (root := local_path(location)) is not None]
    return str(next((place for place in places if place.exists()), places[0]))


def download_artifact(
    store_uri: str, run_id: str, artifact_uri: str, path: str, checksum: str | None
) -> Path:
    """Returns the file of one of a run's artifacts: itself in a local store, else a copy.

    Args:
        store_uri: The store's address.
        run_id: The run.
        artifact_uri: The location of all artifacts of the run, as it is written down.
        path: The artifact's path among them.
        checksum: What the run recorded of it, if it did.

    Raises:
        LabError: The run has no such artifact, or it is damaged.
    """
    local = Path(artifact_place(store_uri, artifact_uri, path))
    if local.is_file():
        return unaltered(local, checksum)
    if local_path(artifact_uri) is not None:
        raise LabError(f"{run_id}: has no artifact {path}: there is no file {local}.")
    # Late: most stores are local and are read without it. MLflow's client would ask for the run again, for
    # its experiment and for models that it logged: seven requests in place of two.
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        repository = get_artifact_repository(artifact_uri, tracking_uri=client_address(store_uri))
        file = Path(repository.download_artifacts(path))  # type: ignore[no-untyped-call]
        return unaltered(file, checksum)
    except LabError:
        raise
    except Exception as error:  # a stranger's address may be anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise LabError(f"{run_id}: has no artifact {path}: {reason}") from error
