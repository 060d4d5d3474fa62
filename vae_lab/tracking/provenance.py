"""Who ran what code: the tags that say where a run comes from."""

from __future__ import annotations

import subprocess
from urllib.parse import unquote, urlsplit

from vae_lab import __version__, files
from vae_lab.tracking.address import is_server


def code_tags() -> dict[str, str]:
    """Returns the lab's version and, where it runs from its repository, the commit."""
    tags = {"vae_lab.version": __version__}
    if not (files.CONFIG_ROOT / ".git").exists():
        return tags
    git = ["git", "-C", str(files.CONFIG_ROOT)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return tags
    tags["mlflow.source.git.commit"] = commit.stdout.strip()
    tags["vae_lab.uncommitted_changes"] = str(bool(changes.stdout.strip())).lower()
    return tags


def owner(uri: str) -> str:
    """Returns who works with a store: the user whom a server knows, else that of this machine.

    The server's user is named by the address, MLflow's variables or MLflow's file of credentials, of which
    the first counts, as it does for MLflow's client.

    Examples:
        >>> owner("http://ann:secret@server:5000")
        'ann'
    """
    known = (unquote(urlsplit(uri).username or "") or _known_to_mlflow()) if is_server(uri) else None
    return known or user()


def _known_to_mlflow() -> str | None:
    from mlflow.utils.credentials import read_mlflow_creds  # late: it brings MLflow with it

    name: str | None = read_mlflow_creds().username
    return name


def user() -> str:
    """Returns the name of whoever runs this, where the system knows it."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
