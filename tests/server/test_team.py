"""`vae-lab server`: what it makes, shows and refuses, and that nothing is left of it."""

from __future__ import annotations

import configparser
import contextlib
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import warnings
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.guide import read
from tests.misuse.conftest import Lab, command
from tests.server.doors import Door
from tests.server.team import TeamServer, command_lines, work_as
from tests.server.test_ui import children_of, processes_of
from vae_lab.cli.servers import serving
from vae_lab.cli.servers.administrator import Administrator, administrator, user_variables
from vae_lab.errors import UserError
from vae_lab.tracking import RUN, Store
from vae_lab.tracking.tagging import tag_runs

__all__ = ["command"]  # a fixture
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc to look for processes in")
MISTAKES = {
    ("--host", "0.0.0.0", "--without-passwords"): "a server without passwords stays on 127.0.0.1",
    ("--host", "192.0.2.7"): "is no address of this machine",
    ("--host", "nowhere.invalid"): "is no address of this machine",
    ("--database", "http://somewhere"): "is a server already. Valid: postgresql://HOST/NAME, sqlite:///FILE.",
    (
        "--database",
        "postgresql://me:pl%40nted@127.0.0.1/lab",
    ): "has a password, which every user of this machine",
    ("--database", "postgresql://me@127.0.0.1/lab?password=pl@nted"): "has a password, which every user",
    (
        "--database",
        "lab.db",
    ): "--database lab.db: not an address the lab can use. Valid: postgresql://HOST/NAME, ",
    ("--database", "sqlite://"): "--database sqlite://: a store in memory is gone",
    ("--database", "mysql://127.0.0.1/lab"): "not a database the server can use",
    ("--certificate", __file__): "--certificate and --key: each needs the other.",
    (): "start the server in one this time, or give a password in MLFLOW_AUTH_ADMIN_PASSWORD.",
}


def status(port: int, host: str, path: str = "/") -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse().status
    connection.close()
    return answer


def test_the_first_password_is_shown_once_kept_as_a_hash_and_in_no_list_of_processes(
    team: TeamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(team.password) >= 20
    assert team.first_said.count(team.password) == 1
    assert not [line for line in command_lines() if team.password.encode() in line]
    database = team.folder / "team"
    kept = [file for file in database.rglob("*") if file.is_file()]
    assert f"Its warnings and errors: {database / 'server.log'}" in team.first_said
    assert "Uvicorn running" in (database / "server.log").read_text()
    assert {"mlflow.db", "server.log", "users.db", "users.ini"} <= {file.name for file in kept}
    for file in kept:
        assert team.password.encode() not in file.read_bytes(), file
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((team.folder / "team").stat().st_mode) == 0o700
    for process in processes_of(children_of(team.process.pid)[0]) if team.process else ():
        assert team.password.encode() not in Path(f"/proc/{process}/environ").read_bytes()
    assert status(team.port, f"127.0.0.1:{team.port}") == 401
    assert status(team.port, "elsewhere.example.org") == 403
    work_as(monkeypatch, "admin", team.password)
    recorder = Store.open(team.address).start("of the administrator", "a", kind=RUN)
    with recorder.artifacts() as folder:
        (folder / "note.txt").write_text("through the server")
    recorder.finish("FINISHED")
    store = Store.open(team.address)
    assert store.place(recorder.run_id, "").startswith("mlflow-artifacts:/")
    assert store.download(recorder.run_id, "note.txt").read_text() == "through the server"
    assert [file.name for file in (team.folder / "team" / "artifacts").rglob("*.txt")] == ["note.txt"]


def test_the_program_of_the_page_adds_somebody_and_changes_a_password(
    team: TeamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_as(monkeypatch, "admin", team.password)
    (program,) = read("server.md").programs
    with warnings.catch_warnings(action="ignore"):  # of MLflow's own imports
        exec(program.replace("https://mlflow.example.org", team.address), {})
    work_as(monkeypatch, "ann", "another password")
    assert "a" in {run.name for run in Store.open(team.address).records()}


def test_it_ends_with_all_its_processes_and_comes_back_with_another_password_and_permission(
    team: TeamServer, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = team.password, TeamServer(team.folder)
    assert team.process is not None
    (group,) = children_of(team.process.pid)
    assert team.stop() == 0
    assert processes_of(group) == []
    assert serving.obstacle(team.port) == ""
    again.start("--new-password", "--permission", "READ")
    with contextlib.ExitStack() as stack:
        stack.callback(again.stop)
        assert again.password not in ("", first)
        team.password = again.password  # of the folder, for whichever test starts the server next
        eve = {"username": "eve", "password": "a password of eve's"}
        assert again.administrate("POST", "2.0/mlflow/users/create", **eve) == 200
        work_as(monkeypatch, "admin", again.password)
        Store.open(again.address).start("of the administrator", "b", kind=RUN).finish("FINISHED")
        work_as(monkeypatch, "eve", eve["password"])
        store = Store.open(again.address)
        assert store.bulk is not None
        (run,) = (run for run in store.tagged("vae_lab.kind", RUN) if run.name == "b")
        with pytest.raises(UserError, match="HTTP error 403"):
            tag_runs(store, [run.run_id], "vae_lab.taken", "1")
        line = (*SMALL, f"tracking.uri={again.address}", "tracking.experiment=of the administrator")
        for words in ((), ("-m", "seed=0,1")):
            code, _, err = lab(*line, *words)
            assert code == 2
            assert "HTTP error 403 (Permission denied). Ask whoever runs it for" in err.splitlines()[-1]
            assert "epoch" not in err, "nothing has been trained"


def test_clients_may_ask_by_the_address_of_any_interface() -> None:
    apart = ["unshare", "--map-root-user", "--net", "sh", "-ec"]
    others = "ip addr add 198.51.100.7/24 dev lo; ip addr add 203.0.113.9/24 dev lo; ip link set lo up"
    if (
        None in map(shutil.which, ("ip", "unshare"))
        or subprocess.run([*apart, others], capture_output=True).returncode
    ):
        pytest.skip("no network of one's own can be made here")
    names = "from vae_lab.cli.server import _own_names; print(*_own_names('0.0.0.0'))"
    shown = subprocess.check_output(
        [*apart, f'{others}; exec "$0" -c "$1"', sys.executable, names], text=True
    )
    assert {"198.51.100.7", "203.0.113.9", "127.0.0.1", "localhost"} <= set(shown.split())
    assert "::1" not in shown.split()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_made(
    folder: Path, command: Lab, options: tuple[str, ...]
) -> None:
    code, out, err = command("server", "--port", str(free_port()), *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert MISTAKES[options] in err
    assert "nted" not in err
    assert [*folder.rglob("*.db")] == []


def test_a_port_that_is_taken_and_a_password_that_is_too_short_are_said_at_once(
    command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Door() as door:
        code, _, err = command("server", "--port", str(door.server_port))
    assert (code, err) == (2, f"vae-lab: --port {door.server_port}: another program has it. Name another.\n")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "short")
    code, _, err = command("server", "--port", str(door.server_port))
    assert (code, err) == (2, "vae-lab: MLFLOW_AUTH_ADMIN_PASSWORD: a password has 12 characters or more.\n")


@pytest.mark.parametrize("anew", [False, True])
def test_an_ordinary_user_neither_passes_for_an_administrator_nor_becomes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "users.db")) as users, users:
        users.execute("CREATE TABLE users (id INTEGER, username TEXT, password_hash TEXT, is_admin BOOLEAN)")
        users.execute("INSERT INTO users VALUES (1, 'root', '', 1), (2, 'ann', '', 0)")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", password := "a password of the tests")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_USERNAME", "ann")
    with pytest.raises(UserError) as caught:
        administrator(tmp_path, anew=anew)
    assert str(caught.value) == (
        "MLFLOW_AUTH_ADMIN_USERNAME=ann: is an ordinary user of this server. Valid: an administrator (root), "
        "or a new name."
    )
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_USERNAME", "root")
    assert administrator(tmp_path, anew=anew) == Administrator("root", password if anew else "")


@pytest.mark.parametrize("user", ["50%", "%(database_uri)s", "100%%"])
def test_an_administrator_of_any_name_is_set_down(tmp_path: Path, user: str) -> None:
    folder = tmp_path / "5%"
    folder.mkdir()
    settings = configparser.ConfigParser()
    settings.read(user_variables(folder, user, "EDIT")["MLFLOW_AUTH_CONFIG_PATH"])
    assert settings["mlflow"]["admin_username"] == user
    assert settings["mlflow"]["database_uri"].endswith("users.db")


def test_a_store_whose_artifacts_lie_on_one_machine_is_not_served(
    database: Path, folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(f"sqlite:///{folder / 'mlflow.db'}", create=True).start("lab", "a", kind=RUN).finish(
        "FINISHED"
    )
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "a password of the tests")
    code, _, err = command(
        "server", "--port", str(free_port()), "--database", f"sqlite:///{folder / 'mlflow.db'}"
    )
    assert code == 2
    assert "its experiment lab keeps artifacts in file:" in err
    assert "this one is shown by vae-lab ui" in err
