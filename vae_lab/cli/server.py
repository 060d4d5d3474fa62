"""`vae-lab server`: the store of a team, an MLflow server with users over PostgreSQL or SQLite."""

from __future__ import annotations

import ipaddress
import json
import shlex
import socket
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import click

from vae_lab.cli.options import refuse_unread
from vae_lab.cli.servers.administrator import Administrator, administrator, user_variables
from vae_lab.cli.servers.interfaces import own_addresses
from vae_lab.cli.servers.server_process import WITH_USERS
from vae_lab.cli.servers.serving import EVERYWHERE, LOCAL, Place, Server, obstacle, stop_on_signals
from vae_lab.cli.terminal.messages import echo
from vae_lab.errors import UserError, quoted

VALID = "postgresql://HOST/NAME, sqlite:///FILE"  # addresses of a database
PERMISSIONS = ("NO_PERMISSIONS", "READ", "EDIT")
DATABASE, ARTIFACTS, LOG = "MLFLOW_BACKEND_STORE_URI", "artifacts", "server.log"
SOMEWHERE = ("192.0.2.1", 9)  # an address of documentation, to which nothing is sent


@click.command
@click.option("--host", default=LOCAL, show_default=True, help="The address to listen on; 0.0.0.0 is all.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="The port to listen on."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="server",
    show_default=True,
    help="Keeps artifacts and users, and the runs unless --database names another place.",
)
@click.option(
    "--database",
    metavar="URI",
    envvar=DATABASE,
    help=f"postgresql://HOST/NAME or sqlite:///FILE. Its password comes from {DATABASE}, PGPASSWORD or "
    "~/.pgpass, not from here.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes that answer."
)
@click.option(
    "--allowed-host",
    "names",
    metavar="NAME",
    multiple=True,
    help="A further name by which clients ask it, such as that of a proxy; can be given again.",
)
@click.option("--certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For TLS.")
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Of --certificate.")
@click.option(
    "--permission",
    type=click.Choice(PERMISSIONS),
    default="EDIT",
    show_default=True,
    help="What users may do with experiments that others made.",
)
@click.option("--new-password", is_flag=True, help="Give the administrator a new one, and show it.")
@click.option("--without-passwords", is_flag=True, help="For everybody on this machine; only on 127.0.0.1.")
def server(
    host: str,
    port: int,
    folder: Path,
    database: str | None,
    workers: int,
    names: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    permission: str,
    new_password: bool,
    without_passwords: bool,
) -> None:
    """Serve the store of a team: runs, artifacts and users, until Ctrl-C.

    The first start makes an administrator and shows the password once; only its hash is kept. Everybody else
    is added in the browser, at /signup. Who trains names the server in MLFLOW_TRACKING_URI, and gives user
    and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or in ~/.mlflow/credentials.

    \b
    Examples:
      vae-lab server                                        on 127.0.0.1, runs in server/mlflow.db
      vae-lab server --database postgresql://127.0.0.1/lab --workers 4
      vae-lab server --host 0.0.0.0 --certificate lab.pem --key lab.key
    """
    if without_passwords:
        refuse_unread("is of users, and --without-passwords has none.", "permission", "new_password")
    tls = _tls_options(certificate, key)
    place = _place(host, port, names, secure=bool(tls), guarded=not without_passwords)
    folder = folder.absolute()
    uri = _database(database, folder)
    _check_packages(uri, users=not without_passwords)
    first = None if without_passwords else administrator(folder, anew=new_password)
    _make_ready(uri, folder)
    options = ["--workers", str(workers), "--artifacts-destination", str(folder / ARTIFACTS), *tls]
    variables = {} if first is None else user_variables(folder, first.user, permission)
    _serve(place, options, variables | {DATABASE: uri}, first, folder / LOG, anew=new_password)


def _serve(
    place: Place,
    options: list[str],
    variables: dict[str, str],
    first: Administrator | None,
    log: Path,
    *,
    anew: bool,
) -> None:
    """Starts the server, says where it is, and stays until it is stopped."""
    from vae_lab.tracking import store_name

    stop_on_signals()
    opening = {} if first is None else {"user": first.user, "password": first.password, "anew": anew}
    echo(f"Starting the server over {store_name(variables[DATABASE])} ...")
    running = Server(
        "vae_lab.cli.servers.server_process", place, options, variables, json.dumps(opening), log
    )
    try:
        running.wait_until_it_answers()
        _introduce(place, first, log)
        running.wait()
    except KeyboardInterrupt:
        echo("Stopped.")
    finally:
        running.stop()


def _introduce(place: Place, first: Administrator | None, log: Path) -> None:
    """Says where the server is, whom it lets in, and where it says what goes wrong."""
    address = place.address(place.names[0])
    echo(f"\n  {address}\n")
    if first is None:
        echo("It asks for no password: every user of this machine may change and delete runs.")
    elif first.made_here:
        echo(f"  user      {first.user}\n  password  {first.password}\n")
        echo("The password is kept nowhere and not shown again; vae-lab server --new-password makes another.")
    else:
        echo(f"The administrator is {first.user}; a forgotten password: vae-lab server --new-password")
    if first is not None:
        echo(f"More users: {address}/signup")
    if not _is_of_this_machine(place.host) and not place.secure:
        echo(
            "\nPasswords and runs cross the network unencrypted: give --certificate and --key, or let "
            "only a proxy with TLS reach it (docs/server.md)."
        )
    echo(f"Its warnings and errors: {log}")
    echo("\nCtrl-C stops it.")


def _place(host: str, port: int, names: tuple[str, ...], *, secure: bool, guarded: bool) -> Place:
    """Returns where the server listens and every name of this machine by which it may be asked.

    Args:
        host: An address of this machine, or a name of one.
        port: Its port.
        names: Further names.
        secure: Whether it speaks TLS.
        guarded: Whether it asks for passwords.

    Raises:
        UserError: It cannot, or must not, listen there.
    """
    try:
        address = str(socket.getaddrinfo(host, None)[0][4][0])
    except (OSError, UnicodeError):
        address = ""
    if not address or obstacle(0, address):
        raise UserError(
            f"--host {quoted(host)}: is no address of this machine. Valid: {LOCAL}, 0.0.0.0 for all of its "
            "addresses, or one of them."
        )
    if not guarded and not _is_of_this_machine(address):
        raise UserError(
            f"--host {quoted(host)}: whoever reaches it could delete every run; a server without passwords "
            f"stays on {LOCAL}."
        )
    if reason := obstacle(port, address):
        raise UserError(f"--port {port}: {reason}. Name another.")
    own = [LOCAL, "localhost"] if _is_of_this_machine(address) else _own_names(address)
    return Place(address, port, list(dict.fromkeys([*names, *own])), secure)


def _is_of_this_machine(host: str) -> bool:
    """Returns whether nobody but this machine reaches an address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _own_names(host: str) -> list[str]:
    """Returns the names and addresses by which other machines, and this one, ask for a host."""
    names = [name for name in (socket.getfqdn(), socket.gethostname()) if not name.startswith("localhost")]
    if host not in EVERYWHERE:
        return [host, *names]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(SOMEWHERE)
            names.append(str(probe.getsockname()[0]))  # the likeliest, which is shown
        except OSError:  # no network
            pass
    return [*names, *own_addresses(), LOCAL, "localhost"]


def _database(given: str | None, folder: Path) -> str:
    """Returns the address of the database as the server takes it.

    Raises:
        UserError: It is none, or one with a password on the command line.
    """
    from vae_lab.tracking import file_address, is_server, store_name
    from vae_lab.tracking.address import engine_address, read_address

    uri = read_address(given or file_address(folder / "mlflow.db"), "--database ", VALID).uri
    if is_server(uri) or uri.startswith("databricks"):
        raise UserError(f"--database {store_name(uri)}: is a server already. Valid: {VALID}.")
    if not uri.startswith(("postgresql", "sqlite")):
        raise UserError(f"--database {store_name(uri)}: not a database the server can use. Valid: {VALID}.")
    source = click.get_current_context().get_parameter_source("database")
    if source == click.core.ParameterSource.COMMANDLINE and _has_password(uri):
        raise UserError(
            f"--database {store_name(uri)}: has a password, which every user of this machine reads in the "
            f"list of processes. Leave it out here, and give it in PGPASSWORD, ~/.pgpass or {DATABASE}."
        )
    return engine_address(uri)


def _has_password(uri: str) -> bool:
    from sqlalchemy import make_url

    url = make_url(uri)
    return url.password is not None or "password" in url.query


def _check_packages(uri: str, *, users: bool) -> None:
    if not entry_points(group="mlflow.app", name=WITH_USERS):
        raise UserError(
            "this installation of vae_lab is older than its code. Install it again: pip install -e ."
        )
    needed = {"flask_wtf": users, "psycopg": uri.startswith("postgresql+psycopg:")}
    if missing := [name for name, is_needed in needed.items() if is_needed and find_spec(name) is None]:
        raise UserError(
            f"the server needs {', '.join(missing)}, of the extra `server`: pip install 'vae-lab[server]'"
        )


def _make_ready(uri: str, folder: Path) -> None:
    """Makes the folder, and looks at a database that may be there already.

    Raises:
        UserError: Its tables are another MLflow's, or experiments keep their artifacts elsewhere.
        LabError: It does not answer.
    """
    from vae_lab.tracking import sqlite_file
    from vae_lab.tracking.database import is_empty

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = sqlite_file(uri)
    if file is None or not is_empty(file):
        from vae_lab.tracking.served import check_served  # brings MLflow with it

        check_served(uri)


def _tls_options(certificate: Path | None, key: Path | None) -> list[str]:
    """Returns what `mlflow server` is told for TLS; nothing without a certificate."""
    if certificate is None and key is None:
        return []
    if certificate is None or key is None:
        raise UserError("--certificate and --key: each needs the other.")
    words = ["--ssl-certfile", str(certificate.absolute()), "--ssl-keyfile", str(key.absolute())]
    return ["--uvicorn-opts", shlex.join(words)]
