"""A PostgreSQL server of one's own, in a folder, for as long as a proof takes."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

USER = "postgres"  # of the system; PostgreSQL does not run as root


class Database(NamedTuple):
    """A PostgreSQL server that runs."""

    port: int
    password: str

    def address(self, name: str) -> str:
        """Returns the address of a database of it, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"


def programs() -> Path | None:
    """Returns the folder of the newest PostgreSQL's programs, None if there is none."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if newest := max(folders, key=lambda folder: int(folder.parent.name), default=None):
        return newest
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


def free_port() -> int:
    """Returns a port of this machine that no program has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(folder: Path, *names: str) -> Iterator[Database]:
    """Yields a server with empty databases of these names, and ends it."""
    binaries = programs()
    assert binaries is not None, "asked for first"
    database = Database(free_port(), secrets.token_urlsafe(12))
    folder.mkdir()
    first = folder / "password"
    first.write_text(database.password)
    user = USER if os.geteuid() == 0 else None
    if user is not None:
        for path in (folder, first):
            shutil.chown(path, user)
        folder.parent.chmod(0o755)

    def run(program: str, *words: str) -> None:
        variables = {**os.environ, "PGPASSWORD": database.password}
        command = [str(binaries / program), *words]
        subprocess.run(command, check=True, env=variables, cwd=folder, stdout=subprocess.DEVNULL, user=user)

    data = str(folder / "data")
    run("initdb", "-D", data, "-A", "scram-sha-256", "-U", USER, f"--pwfile={first}", "-E", "UTF8")
    first.unlink()
    options = f"-p {database.port} -k {folder} -c listen_addresses=127.0.0.1"
    run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        for name in names:
            run("createdb", "-h", "127.0.0.1", "-p", str(database.port), "-U", USER, name)
        yield database
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
