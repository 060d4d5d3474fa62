"""Which tracking store is meant, under one name however it is spelled."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from vae_lab import files
from vae_lab.errors import LabError, UserError, choices, quoted, without_credentials

if TYPE_CHECKING:
    from sqlalchemy import URL

SERVERS = {"http": 80, "https": 443}  # with the ports that need not be named
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
SQLITE = ("sqlite", "sqlite+pysqlite")
VALID = "sqlite:///FILE, http://HOST:PORT, https://..., or a database address that MLflow accepts"
# Options of an SQLite address, with what their values must be.
SQLITE_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "timeout": float,
    "isolation_level": str,
    "detect_types": int,
    "cached_statements": int,
}
# Options of a database's address that say which one it is; all others may change without another store.
PLACE_OPTIONS = ("host", "port", "options", "service", "unix_socket")


class Address(NamedTuple):
    """A store's address as it was read; no two names belong to one store.

    The name is what is shown, kept and hashed. The password, token and options, with which the store is
    opened, are in `uri` alone.
    """

    uri: str
    name: str
    file: Path | None = None  # of an SQLite store


def resolve_address(uri: str | None) -> str:
    """Returns the address as given, else from the environment, else that of ./mlflow.db, in full.

    Relative files are meant from the folder in which the command was started. An address without credentials
    gets those with which MLFLOW_TRACKING_URI spells the same store.

    Raises:
        UserError: It is no address of a store.

    Examples:
        >>> resolve_address("sqlite:////nowhere/lab/../mlflow.db")
        'sqlite:////nowhere/mlflow.db'
        >>> resolve_address("HTTP://me:secret@Server:80/")
        'http://me:secret@server'
    """
    spelled = os.environ.get("MLFLOW_TRACKING_URI")
    address = read_address(uri or spelled or "sqlite:///mlflow.db")
    if spelled and address.uri == address.name and address.file is None:
        with suppress(UserError):  # the variable is not what is asked for
            if (other := read_address(spelled)).name == address.name:
                return other.uri
    return address.uri


def sqlite_file(uri: str) -> Path | None:
    """Returns the file of an SQLite store, None for a server.

    Examples:
        >>> str(sqlite_file("sqlite:////nowhere/what%3Fnow/mlflow.db"))
        '/nowhere/what?now/mlflow.db'
    """
    return read_address(uri).file


def store_address(uri: str) -> str:
    """Returns the one address of a store: the same for every spelling, without password, token and options.

    Examples:
        >>> store_address("http://me:secret@127.0.0.1:5000/")
        'http://127.0.0.1:5000'
        >>> store_address("sqlite:////nowhere/mlflow.db?timeout=30")
        'sqlite:////nowhere/mlflow.db'
    """
    return read_address(uri).name


def store_name(uri: str) -> str:
    """Returns a store's name in messages: the file of an SQLite store, else its address without password.

    Examples:
        >>> store_name("postgresql+psycopg2://me:secret@127.0.0.1/lab?sslmode=require")
        'postgresql://127.0.0.1/lab'
    """
    address = read_address(uri)
    return str(address.file or address.name)


def file_address(file: Path) -> str:
    """Returns the address of an SQLite store by its file.

    Examples:
        >>> file_address(Path("/nowhere/what?now/mlflow.db"))
        'sqlite:////nowhere/what%3Fnow/mlflow.db'
    """
    return f"sqlite:///{str(file).replace('%', '%25').replace('?', '%3F')}"


def is_server(uri: str) -> bool:
    """Returns whether the store is asked over HTTP."""
    return uri.startswith(("http://", "https://"))


def client_address(uri: str) -> str:
    """Returns the address as MLflow's client takes it, whatever characters a folder's name has.

    Examples:
        >>> client_address("sqlite:////nowhere/what%3Fnow/mlflow.db")
        'sqlite+pysqlite:////nowhere/what%3Fnow/mlflow.db'
    """
    file = sqlite_file(uri)
    if file is None:
        return uri
    from sqlalchemy import URL  # late: what only reads an SQLite file goes without

    url = URL.create("sqlite", database=str(file), query=dict(_options(uri)))
    rendered = url.render_as_string(hide_password=False)
    # MLflow makes the folder of a plain address, and takes what is encoded there for the folder's name.
    return rendered if "%" not in rendered else f"{SQLITE[1]}{rendered.removeprefix(SQLITE[0])}"


def engine_address(uri: str) -> str:
    """Returns a database's address as SQLAlchemy takes it, with psycopg for PostgreSQL.

    SQLAlchemy 2.0 reads a plain address as psycopg2's, which is not installed.

    Examples:
        >>> engine_address("postgresql://127.0.0.1/lab")
        'postgresql+psycopg://127.0.0.1/lab'
    """
    return client_address(uri.replace("postgresql://", "postgresql+psycopg://", 1))


def read_address(text: str, setting: str = "tracking.uri=", valid: str = VALID) -> Address:
    """Returns what an address says, read as SQLAlchemy and MLflow read it.

    Args:
        text: The address.
        setting: Before it in messages: where the user has given it.
        valid: What may stand there, in messages.

    Raises:
        UserError: It is no address of a store, or of one that does not last.
    """
    scheme = text.partition("://")[0].lower()
    try:
        if scheme in SQLITE:
            return _of_file(text, setting)
        if any(sign.isspace() for sign in text):  # in a password it is written as %20
            raise ValueError("a space")
        if scheme in SERVERS:
            return _of_server(text, setting)
        if scheme.partition("+")[0] in DATABASES:
            return _of_database(text, setting)
        if scheme == "databricks":  # a profile's name follows, whose password lies elsewhere
            return Address(text, without_credentials(text))
    except ValueError:  # http://[
        pass
    raise UserError(f"{setting}{_shown(text)}: not an address the lab can use. Valid: {valid}.")


def _of_file(text: str, setting: str) -> Address:
    rest = text.partition("://")[2]
    if not rest.startswith(("/", "?")) and rest:
        raise ValueError("SQLite has no host")
    name = unquote(rest.partition("?")[0].removeprefix("/"))
    if name in ("", ":memory:"):
        raise UserError(
            f"{setting}{quoted(text)}: a store in memory is gone when the command ends; name a file, "
            "as in sqlite:///mlflow.db."
        )
    if name.startswith("file:"):
        raise UserError(
            f"{setting}{quoted(text)}: SQLite's own file: addresses are not read; name the file, as in "
            "sqlite:///mlflow.db."
        )
    options = _options(text)
    for key, value in options:
        if key not in SQLITE_OPTIONS:
            raise UserError(
                f"{setting}{quoted(text)}: unknown option {quoted(key)}{choices(key, SQLITE_OPTIONS)}"
            )
        SQLITE_OPTIONS[key](value)
    # SQLAlchemy takes dots out of a path before the system follows its links.
    path = Path(os.path.abspath(files.from_start(files.from_home(name, setting))))
    file = Path(os.path.realpath(path))
    if path.is_symlink() and not file.parent.is_dir():  # a disk that is not there now, say
        raise UserError(f"{path}: leads to {file}, and there is no folder {file.parent}.")
    address = file_address(file)
    query = text.partition("?")[2]
    return Address(f"{address}?{query}" if options else address, address, file)


def _options(uri: str) -> list[tuple[str, str]]:
    return parse_qsl(uri.partition("?")[2])


def _of_server(text: str, setting: str) -> Address:
    parts = urlsplit(text)
    if not parts.hostname or "@" in parts.path:
        raise ValueError("no host, or a slash in the password")
    if parts.query or parts.fragment:
        raise UserError(
            f"{setting}{_shown(text)}: a server's address ends with its path. Tokens are given with "
            "MLFLOW_TRACKING_TOKEN, passwords before the host: USER:PASSWORD@HOST."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, SERVERS[parts.scheme]) else f":{parts.port}"
    rest = f"{host}{port}{parts.path.rstrip('/')}"
    credentials = "".join(parts.netloc.rpartition("@")[:2])
    return Address(f"{parts.scheme}://{credentials}{rest}", f"{parts.scheme}://{rest}")


def _of_database(text: str, setting: str) -> Address:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    if "odbc_connect" in url.query:
        raise UserError(
            f"{setting}{_shown(text)}: odbc_connect hides which store it is; name host and database "
            "before the ?, as in mssql+pyodbc://HOST/DATABASE?driver=ODBC+Driver+18+for+SQL+Server."
        )
    if "@" in (url.host or ""):  # of which SQLAlchemy's versions take the first or the last
        raise ValueError("an @ in the password, which is written as %40")
    return Address(text, _place(url).render_as_string(hide_password=False))


def _place(url: URL) -> URL:
    """Returns a database's address with nothing but where it is."""
    backend = url.get_backend_name()
    query = {key: value for key, value in url.query.items() if key in PLACE_OPTIONS}
    port = None if url.port == DATABASES[backend] else url.port
    host = url.host and url.host.lower()
    return url.create(backend, host=host, port=port, database=url.database, query=query)


def _shown(text: str) -> str:
    """Returns a text that may be an address without what may be a password, whatever is in it."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme.lower() not in SQLITE:
        before, _, place = rest.rpartition("@")
        # Whether the password or a token has the @ is not known where options stand before it.
        shown = "..." if re.search("[?#]", before) else re.split("[?#]", place)[0]
        text = f"{scheme}{mark}{shown}"
    return quoted(without_credentials(text))


def lock_file(file: Path) -> Path:
    """Returns the lock of an SQLite store, in the cache so that it does not lie beside the user's files.

    Raises:
        LabError: The cache cannot be written.
    """
    locks = files.cache_folder("locks")
    try:
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{locks}: cannot be written: {error.strerror or error}.{files.cache_hint(locks)}"
        raise LabError(f"{file}: the store cannot be made: {reason}") from error
    return locks / f"{hashlib.sha256(str(file).encode()).hexdigest()[:16]}.lock"
