"""Who may use a team's server: the file of MLflow's basic auth app, and the administrator's password."""

from __future__ import annotations

import configparser
import os
import secrets
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

from vae_lab.errors import UserError, quoted

USERS_FILE, SETTINGS_FILE = "users.db", "users.ini"
USER, PASSWORD = "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"  # MLflow's own variables
SHORTEST = 12  # characters of a password that MLflow takes
CACHED_SECONDS = 60  # that a worker believes a password; without, each request costs 0.1 s more


class Administrator(NamedTuple):
    """The first user, and the password that is to be set, if one is."""

    user: str
    password: str = ""
    made_here: bool = False  # so that it has to be shown


def administrator(folder: Path, *, anew: bool) -> Administrator:
    """Returns the administrator of the server in a folder, with a password if there is none yet.

    Args:
        folder: Where the users are kept.
        anew: Whether one who is there gets a new password.

    Raises:
        UserError: A user of that name is no administrator, the password could not be shown, or the given one
            is too short.
    """
    user = os.environ.get(USER) or "admin"
    users = _users(folder / USERS_FILE)
    if not users.get(user, True):  # who would become one with a new password
        administrators = ", ".join(quoted(name) for name in users if users[name])
        raise UserError(
            f"{USER}={quoted(user)}: is an ordinary user of this server. Valid: an administrator "
            f"({administrators or 'there is none'}), or a new name."
        )
    if not anew and user in users:
        return Administrator(user)
    if given := os.environ.get(PASSWORD):
        if len(given) < SHORTEST:
            raise UserError(f"{PASSWORD}: a password has {SHORTEST} characters or more.")
        return Administrator(user, given)
    if not sys.stdout.isatty():  # it may go to a file that is kept
        raise UserError(
            f"the password of {quoted(user)} is made now and shown once, and standard output is no terminal: "
            f"start the server in one this time, or give a password in {PASSWORD}."
        )
    return Administrator(user, secrets.token_urlsafe(18), made_here=True)


def _users(file: Path) -> dict[str, bool]:
    """Returns who is in MLflow's table of users, and whether as an administrator."""
    if not file.exists():
        return {}
    from vae_lab.tracking.database import open_database

    try:
        with open_database(file) as connection:
            rows = connection.execute("SELECT username, is_admin FROM users ORDER BY id").fetchall()
    except sqlite3.OperationalError:  # a server that was ended while it made the tables
        return {}
    return {name: bool(administrates) for name, administrates in rows}


def user_variables(folder: Path, user: str, permission: str) -> dict[str, str]:
    """Writes the settings of MLflow's basic auth app, and returns the variables that lead to them.

    Args:
        folder: Where the users are kept.
        user: The administrator.
        permission: What a user may do with experiments of others.
    """
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(_write_settings(folder, user, permission)),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),  # of the form that adds users
    }


def _write_settings(folder: Path, user: str, permission: str) -> Path:
    """Returns the file of the settings, which only its owner reads."""
    from vae_lab.tracking import client_address, file_address

    users = client_address(file_address(folder / USERS_FILE))
    values = {
        "database_uri": users,
        "admin_username": user,
        "default_permission": permission,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": str(CACHED_SECONDS),
    }
    settings = configparser.ConfigParser()
    # A single % would begin the name of another setting.
    settings["mlflow"] = {key: value.replace("%", "%%") for key, value in values.items()}
    file = folder / SETTINGS_FILE
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        settings.write(stream)
    return file
