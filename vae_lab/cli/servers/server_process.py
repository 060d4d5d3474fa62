"""The process behind `vae-lab server`: MLflow's server with users, the first of which it makes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from vae_lab.cli.servers import ui_server

WITH_USERS, WITHOUT_USERS = "vae-lab-users", "vae-lab-open"  # entry points of this package
PRIVATE = 0o077  # nobody else reads the users' database, the runs' and the artifacts


def main() -> None:
    """Reads a line from standard input and serves as `ui_server` does.

    The line is a JSON object: nothing in it for a server without users, else `user` and `password` of the
    administrator, and whether the password replaces (`anew`) that of one who is there. It reaches nobody's
    list of processes, and the workers that MLflow starts do not inherit it.
    """
    os.umask(PRIVATE)
    if opening := json.loads(_first_line()):
        _make_administrator(opening)
    sys.argv[1:1] = ["--app-name", WITH_USERS if opening else WITHOUT_USERS]
    ui_server.main()


def _first_line() -> bytes:
    """Returns the first line of standard input, and takes no byte beyond it."""
    line = b""
    while not line.endswith(b"\n") and (sign := os.read(0, 1)):
        line += sign
    return line or b"{}"


def _make_administrator(opening: Mapping[str, str]) -> None:
    from mlflow.server import auth

    auth.store.init_db(auth.auth_config.database_uri)  # type: ignore[no-untyped-call]
    user, password = opening["user"], opening["password"]
    if not auth.store.has_user(user):
        auth.store.create_user(user, password, is_admin=True)
    elif opening["anew"]:
        auth.store.update_user(user, password=password)


if __name__ == "__main__":
    main()
