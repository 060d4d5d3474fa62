"""`vae-lab server`: what it makes, shows and refuses, and that nothing is left of it."""

from __future__ import annotations

import socket
import stat
import warnings
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.guide import read
from tests.misuse.conftest import Lab, command
from tests.server.doors import Door
from tests.server.team import TeamServer, command_lines
from tests.server.test_ui import children_of, processes_of
from vae_lab.cli import serving
from vae_lab.tracking import RUN, Store

__all__ = ["command"]  # a fixture
pytest.importorskip("flask_wtf", reason="the extra `server` is not installed")
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc to look for processes in")
MISTAKES = {
    ("--host", "0.0.0.0", "--without-passwords"): "a server without passwords stays on 127.0.0.1",
    ("--host", "192.0.2.7"): "is no address of this machine",
    ("--host", "nowhere.invalid"): "is no address of this machine",
    ("--database", "http://somewhere"): "is a server already. Valid: postgresql://, sqlite:///.",
    (
        "--database",
        "postgresql://me:pl@nted@127.0.0.1/lab",
    ): "has a password, which every user of this machine",
    ("--database", "postgresql://me@127.0.0.1/lab?password=pl@nted"): "has a password, which every user",
    ("--database", "mysql://127.0.0.1/lab"): "not a database the server can use",
    ("--certificate", __file__): "--certificate and --key: each needs the other.",
    (): "start the server in one this time, or give a password in MLFLOW_AUTH_ADMIN_PASSWORD.",
}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """A server that was started for the first time."""
    server = TeamServer(tmp_path_factory.mktemp("team"))
    server.start()
    yield server
    if server.process is not None:
        server.stop()


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
    assert team.said.count(team.password) == 1
    assert not [line for line in command_lines() if team.password.encode() in line]
    kept = [file for file in (team.folder / "team").rglob("*") if file.is_file()]
    assert {"mlflow.db", "users.db", "users.ini"} <= {file.name for file in kept}
    for file in kept:
        assert team.password.encode() not in file.read_bytes(), file
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((team.folder / "team").stat().st_mode) == 0o700
    for process in processes_of(children_of(team.process.pid)[0]) if team.process else ():
        assert team.password.encode() not in Path(f"/proc/{process}/environ").read_bytes()
    assert status(team.port, f"127.0.0.1:{team.port}") == 401
    assert status(team.port, "elsewhere.example.org") == 403
    for name, value in team.credentials().items():
        monkeypatch.setenv(name, value)
    recorder = Store.open(team.address).start("lab", "a", kind=RUN)
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
    for name, value in team.credentials().items():
        monkeypatch.setenv(name, value)
    (program,) = read("server.md").programs
    with warnings.catch_warnings(action="ignore"):  # of MLflow's own imports
        exec(program.replace("https://mlflow.example.org", team.address), {})
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another password")
    assert [run.name for run in Store.open(team.address).records()] == ["a"]


def test_it_ends_with_all_its_processes_and_asks_for_the_same_password_again(
    team: TeamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = team.password, TeamServer(team.folder)
    assert team.process is not None
    (group,) = children_of(team.process.pid)
    assert team.stop() == 0
    assert processes_of(group) == []
    assert serving.obstacle(team.port) == ""
    again.start("--new-password")
    assert again.password not in ("", first)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", again.password)
    assert len(Store.open(again.address).tagged("vae_lab.kind", RUN)) == 1
    assert again.stop() == 0


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
    assert "pl@nted" not in err
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
