"""Who ran what code: the tags that say where a run comes from."""

from __future__ import annotations

import subprocess

from vae_lab import __version__, files


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


def user() -> str:
    """Returns the name of whoever runs this, where the system knows it."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
