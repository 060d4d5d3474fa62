"""Artifacts of runs: where they lie, and reading one back."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from vae_lab.errors import LabError
from vae_lab.files import unaltered


def artifact_place(artifact_uri: str, path: str) -> str:
    """Returns where an artifact lies: the path of the file in a local store, else its address.

    Args:
        artifact_uri: The address of all artifacts of the run.
        path: The artifact's path among them.

    Examples:
        >>> artifact_place("file:///home/me/mlruns/1f/artifacts", "config.yaml")
        '/home/me/mlruns/1f/artifacts/config.yaml'
        >>> artifact_place("mlflow-artifacts:/1/1f/artifacts", "config.yaml")
        'mlflow-artifacts:/1/1f/artifacts/config.yaml'
    """
    address = f"{artifact_uri}/{path}"
    return unquote(urlsplit(address).path) if address.startswith("file:") else address


def download_artifact(
    store_uri: str, run_id: str, artifact_uri: str, path: str, checksum: str | None
) -> Path:
    """Returns the file of one of a run's artifacts: itself in a local store, else a copy.

    Args:
        store_uri: The store's address.
        run_id: The run.
        artifact_uri: The address of all artifacts of the run.
        path: The artifact's path among them.
        checksum: What the run recorded of it, if it did.

    Raises:
        LabError: The run has no such artifact, or it is damaged.
    """
    local = Path(artifact_place(artifact_uri, path))
    if local.is_file():
        return unaltered(local, checksum)
    if artifact_uri.startswith("file:"):
        raise LabError(f"{run_id}: has no artifact {path}: there is no file {local}.")
    from mlflow import MlflowClient  # late: most stores are local and are read without it
    from mlflow.exceptions import MlflowException

    try:
        return unaltered(Path(MlflowClient(store_uri).download_artifacts(run_id, path)), checksum)
    except (MlflowException, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise LabError(f"{run_id}: has no artifact {path}: {reason}") from error
