"""One store has one name, however its address is spelled, and the name holds no password."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy
from mlflow import MlflowClient

from vae_lab import tracking
from vae_lab.errors import UserError, quoted, without_credentials
from vae_lab.tracking import Store, reader, resolve_address, sqlite_file, store_name
from vae_lab.tracking.address import client_address, file_address, store_address
from vae_lab.tracking.database import _fill
from vae_lab.tracking.folders import make_spool_folder, run_folder, spool_folder

ODD = "what?now 50%41 #1 größe&co"
SCHEMES = (
    "http",
    "HTTPS",
    "postgresql",
    "postgresql+psycopg",
    "mysql+pymysql",
    "mssql+pyodbc",
    "databricks",
    "ftp",
)
SECRETS = ("s3cret", "s3cret/b", "s3cret?b", "a#s3cret", "a@s3cret", "a/b@s3cret", "é:s3cret")


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:///mlflow.db?timeout=30",
        "sqlite:///a%20b.db",
        "sqlite:///100%.db",
        "sqlite:///what%3Fnow.db?timeout=30&cached_statements=5",
        "sqlite+pysqlite:////nowhere/a#b/c d.db",
        "sqlite:////nowhere/me@work/it:s.db",
        "sqlite:///../mlflow.db",
    ],
)
def test_files_are_those_that_sqlalchemy_opens(folder: Path, address: str) -> None:
    url = sqlalchemy.make_url(address)
    [[name], options] = url.get_dialect()().create_connect_args(url)
    assert str(sqlite_file(address)) == name
    url = sqlalchemy.make_url(client_address(resolve_address(address)))
    assert url.get_dialect()().create_connect_args(url) == ([name], options)


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (
            (
                *("http://server", "http://server/", "HTTP://Server:80", "http://me:secret@server//"),
                "http://t0ken@SERVER:80/",
            ),
            "http://server",
        ),
        (("https://[::1]:443/lab/", "https://me:a@b@[::1]/lab"), "https://[::1]/lab"),
        (("http://server:5000", "http://me:secret@server:5000/"), "http://server:5000"),
        (
            (
                "postgresql://server/lab",
                "postgresql://me:a/b@Server:5432/lab?sslmode=require&password=secret",
                "postgresql+psycopg2://you:secret@server/lab?connect_timeout=10",
            ),
            "postgresql://server/lab",
        ),
        (("mysql+pymysql://me:secret@server:3306/lab",), "mysql://server/lab"),
        (
            ("postgresql:///lab?host=/run/postgresql&user=me&passfile=x",),
            "postgresql:///lab?host=%2Frun%2Fpostgresql",
        ),
    ],
)
def test_every_spelling_of_a_server_is_one_store(spellings: tuple[str, ...], name: str) -> None:
    for spelling in spellings:
        uri = resolve_address(spelling)
        assert resolve_address(uri) == uri
        assert store_address(uri) == store_name(uri) == store_address(name) == name
        assert spool_folder(uri) == spool_folder(name)
        assert run_folder(uri, "1f") == run_folder(name, "1f")


def test_every_spelling_of_a_file_is_one_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "below").mkdir()
    (folder / "linked").symlink_to(folder / "below")
    (folder / "link.db").symlink_to(folder / "mlflow.db")
    monkeypatch.chdir(folder / "below")
    for spelling in ("../mlflow.db", "../below/../mlflow.db?timeout=3", f"{folder}/link.db"):
        assert sqlite_file(f"sqlite:///{spelling}") == folder / "mlflow.db"
        assert spool_folder(f"sqlite:///{spelling}") == spool_folder(file_address(folder / "mlflow.db"))
    assert sqlite_file(f"sqlite:///{folder}/linked/mlflow.db") == folder / "below" / "mlflow.db"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite://", "in memory is gone when the command ends; name a file"),
        ("sqlite:///", "in memory is gone"),
        ("sqlite:///:memory:", "in memory is gone"),
        ("sqlite+pysqlite:///?timeout=3", "in memory is gone"),
        ("sqlite:///file:x.db?mode=memory&uri=true", "SQLite's own file: addresses are not read"),
        ("sqlite:///mlflow.db?tiemout=3", "unknown option tiemout; did you mean timeout"),
        ("sqlite:///mlflow.db?timeout=long", "not an address"),
        ("sqlite://server/mlflow.db", "not an address"),
        ("sqlite+aiosqlite:///mlflow.db", "not an address"),
        ("http://server:port", "not an address"),
        ("http://me:se/cret@server", "tracking.uri=http://server: not an address"),
        ("http://me:se cret@server", "tracking.uri=http://server: not an address"),
        ("http://server?token=secret", "tracking.uri=http://server: a server's address ends with its path"),
        ("sqlite:///~no-such-user/x.db", "tracking.uri=~no-such-user/x.db: no user has this home folder"),
        ("http://server#secret", "a server's address ends with its path"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "tracking.uri=mssql+pyodbc:///: odbc_connect hides"),
        ("postgresql://me:secret@server:port/lab", "tracking.uri=postgresql://server:port/lab: not an"),
    ],
)
def test_what_is_no_address_is_one_line_without_the_secret(folder: Path, address: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Store.open(address, create=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "cret" not in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("secret", SECRETS)
def test_no_kind_of_address_shows_its_secret(secret: str) -> None:
    escaped = quote(secret, safe="")
    users = [f"{user}:{word}" for user in ("me", "") for word in (secret, escaped)]
    addresses = [
        *(f"{scheme}://{user}@host/lab" for scheme in SCHEMES for user in users),
        *(f"postgresql://host/lab?{key}={escaped}" for key in ("password", "sslpassword")),
        *(f"http://host{sign}token={word}" for sign in "?#" for word in (secret, escaped)),
        f"mssql+pyodbc:///?odbc_connect=Driver%3Dx%3BPWD%3D{escaped}",
        f"mssql+pyodbc:///?odbc_connect=Driver=x;PWD={secret}",
    ]
    for address in addresses:
        try:
            told = store_name(address) + store_address(address)
        except UserError as refused:
            told = str(refused)
        told += quoted(address) + without_credentials(f"connecting to {address} has failed")
        assert "s3cret" not in told, address


def test_messages_hold_no_password_also_where_they_are_cut() -> None:
    for secret in ("secret", "a@b:c/d", "s" * 300, "%73"):
        address = f"http://me:{secret}@server:5000/x"
        assert secret not in quoted(f"tracking.uri={address}")
        assert str(UserError(f"{address}: is away, {address}")) == (
            "http://server:5000/x: is away, http://server:5000/x"
        )
    for harmless in ("sqlite:////home/me@work/x.db", "a@b.c wrote http://x:1/y", "sweeps@_global_=depth"):
        assert without_credentials(harmless) == harmless


def test_credentials_of_the_environment_go_with_their_store_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@server:5000/")
    assert resolve_address("http://server:5000") == "http://me:secret@server:5000"
    assert resolve_address("http://you:new@server:5000") == "http://you:new@server:5000"
    assert resolve_address("http://server:5001") == "http://server:5001"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense")
    assert resolve_address("http://server:5000") == "http://server:5000"


def test_spools_of_before_are_found_by_the_address_that_they_note(folder: Path) -> None:
    address = "http://me:secret@server:5000/"
    old = spool_folder(address).with_name(hashlib.sha256(address.encode()).hexdigest()[:16])
    old.mkdir(parents=True)
    (old / "address").write_text(address)
    assert tracking.spool_folders() == [old]
    assert tracking.spool_address(old) == address
    new = make_spool_folder(address)
    assert new == spool_folder("http://server:5000") != old
    assert tracking.spool_address(new) == (new / "address").read_text() == "http://server:5000"


def test_a_folder_of_any_name_holds_a_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ODD).mkdir()
    monkeypatch.chdir(folder / ODD)
    store = Store.open(create=True)
    recorder = store.start("lab", "a", kind=tracking.RUN)
    with recorder.artifacts() as scratch:
        (scratch / "note.txt").write_text("kept")
    recorder.finish("FINISHED")
    assert reader().tagged(tracking.KIND, tracking.RUN)[0].run_id == recorder.run_id
    assert reader().download(recorder.run_id, "note.txt").read_text() == "kept"
    files = MlflowClient(client_address(store.uri)).list_artifacts(recorder.run_id)
    assert [file.path for file in files] == ["note.txt"]
    assert [path.name for path in folder.iterdir()] == [ODD]
    assert "mlflow.db" in {path.name for path in (folder / ODD).iterdir()}


def test_options_of_an_address_are_no_part_of_the_files_name(folder: Path) -> None:
    store = Store.open("sqlite:///mlflow.db?timeout=30", create=True)
    store.start("lab", "a", kind=tracking.RUN).finish("FINISHED")
    for address in ("sqlite:///mlflow.db", "sqlite:///mlflow.db?timeout=5", None):
        assert len(reader(address).tagged(tracking.KIND, tracking.RUN)) == 1


def test_a_link_to_a_store_that_is_not_there_is_followed_or_refused(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "mlflow.db").symlink_to(folder / "elsewhere" / "lab.db")
    with pytest.raises(UserError, match=r"elsewhere/lab\.db: no runs are kept here yet"):
        Store.open()
    Store.open(create=True)
    assert (folder / "mlflow.db").is_symlink()
    assert (folder / "elsewhere" / "lab.db").is_file()
    (folder / "gone.db").symlink_to(folder / "unplugged" / "lab.db")
    with pytest.raises(UserError, match=r"gone\.db: leads to .*unplugged/lab\.db, and there is no folder"):
        Store.open("sqlite:///gone.db", create=True)
    assert (folder / "gone.db").is_symlink()


def test_a_file_that_another_program_has_opened_becomes_the_store_under_its_hands(folder: Path) -> None:
    with closing(sqlite3.connect("mlflow.db")) as other:
        assert other.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        inode = (folder / "mlflow.db").stat().st_ino
        Store.open(create=True).start("lab", "a", kind=tracking.RUN)
        assert other.execute("SELECT name FROM experiments WHERE name = 'lab'").fetchone() == ("lab",)
    assert (folder / "mlflow.db").stat().st_ino == inode


def test_tables_that_another_program_made_meanwhile_are_kept(folder: Path, database: Path) -> None:
    scratch = folder / "scratch.db"
    scratch.write_bytes(database.read_bytes())
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE mine (value)")
        other.execute("INSERT INTO mine VALUES (7)")
        _fill(folder / "mlflow.db", scratch)
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
        assert other.execute("SELECT value FROM mine").fetchone() == (7,)


def test_an_empty_file_is_no_store_yet(folder: Path) -> None:
    (folder / "mlflow.db").touch()
    for open_store in (Store.open, reader):
        with pytest.raises(UserError, match="no runs are kept here yet"):
            open_store()
    assert (folder / "mlflow.db").stat().st_size == 0
